CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "fairway.layers.local.LocalChannelLayer",
    }
}
