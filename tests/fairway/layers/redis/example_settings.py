CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "fairway.layers.redis.RedisChannelLayer",
        "CONFIG": {"hosts": ["redis://localhost:6379/0"], "prefix": "mysite"},
    }
}
