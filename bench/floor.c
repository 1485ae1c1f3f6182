/* floor: the least that a WebSocket server can do, as a measure for the others. One thread, epoll, one send() per recipient.
 *
 *   gcc -O3 -o floor floor.c        floor PORT
 *
 * Path /hall/: a member of the room. /hall-sender/: what it sends goes to every member; it is none itself. Any other path: echo.
 * It does what a server must: handshake with its key, masks taken off, lengths of all three sizes, frames split over reads, pings,
 * the closing handshake, what a socket does not take kept for later. It leaves out what costs the others: JSON, UTF-8 checks,
 * fragments, extensions, timeouts, limits other than the size of a message, and users.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "handshake.h"

#define MOST 20000
#define MAX_MESSAGE (1u << 20)

enum kind { NEW, ECHO, MEMBER, SENDER };
struct client { enum kind kind; int open, place; uint8_t *in, *out; size_t in_len, out_len, out_off; };

static struct client clients[MOST]; /* by descriptor */
static int members[MOST], member_count, ep;
static uint8_t rb[2 * MAX_MESSAGE + 64];

static void watch(int fd) {
    struct epoll_event e = {.events = EPOLLIN | (clients[fd].out_len ? EPOLLOUT : 0), .data.fd = fd};
    epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e);
}
static void drop(int fd) {
    struct client *c = &clients[fd];
    if (c->kind == MEMBER) {
        members[c->place] = members[--member_count];
        clients[members[c->place]].place = c->place;
    }
    free(c->in);
    free(c->out);
    *c = (struct client){0};
    close(fd);
}
static void put(int fd, const uint8_t *data, size_t len) {
    struct client *c = &clients[fd];
    ssize_t w = c->out_len ? 0 : send(fd, data, len, MSG_NOSIGNAL);
    if (w == (ssize_t)len || (w < 0 && errno != EAGAIN)) return; /* sent, or gone: the next read says so */
    if (w < 0) w = 0;
    size_t kept = c->out_len - c->out_off;
    uint8_t *grown = malloc(kept + len - w);
    if (kept) memcpy(grown, c->out + c->out_off, kept);
    memcpy(grown + kept, data + w, len - w);
    free(c->out);
    c->out = grown; c->out_len = kept + len - w; c->out_off = 0;
    watch(fd);
}
static void put_rest(int fd) {
    struct client *c = &clients[fd];
    ssize_t w = send(fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
    if (w > 0) c->out_off += w;
    if (c->out_off < c->out_len) return;
    free(c->out);
    c->out = NULL; c->out_len = c->out_off = 0;
    watch(fd);
}
static size_t frame(uint8_t *to, int opcode, const uint8_t *payload, size_t len) {
    size_t o = 2;
    to[0] = 0x80 | opcode;
    if (len < 126) to[1] = len;
    else if (len < 65536) { to[1] = 126; to[o++] = len >> 8; to[o++] = len & 255; }
    else { to[1] = 127; for (int k = 7; k >= 0; k--) to[o++] = (uint64_t)len >> (8 * k); }
    memcpy(to + o, payload, len);
    return o + len;
}
static int on_frame(int fd, int opcode, const uint8_t *payload, size_t len) { /* -1: the connection is over */
    static uint8_t out[MAX_MESSAGE + 16];
    struct client *c = &clients[fd];
    if (opcode == 8) { put(fd, out, frame(out, 8, payload, len)); return -1; }
    if (opcode == 9) { put(fd, out, frame(out, 10, payload, len)); return 0; }
    if (opcode != 1 && opcode != 2) return 0;
    size_t size = frame(out, opcode, payload, len);
    if (c->kind == ECHO) put(fd, out, size);
    else if (c->kind == SENDER) for (int i = 0; i < member_count; i++) put(members[i], out, size);
    return 0;
}
static int64_t frames(int fd, uint8_t *p, size_t len) {
    size_t o = 0;
    while (len - o >= 6) {
        uint64_t h = 2, l = p[o + 1] & 127;
        if (!(p[o + 1] & 128) || !(p[o] & 128) || p[o] & 0x70) return -1;
        if (l == 126) { if (len - o < 8) break; l = p[o + 2] << 8 | p[o + 3]; h = 4; }
        else if (l == 127) { if (len - o < 14) break; l = 0; for (int k = 2; k < 10; k++) l = l << 8 | p[o + k]; h = 10; }
        if (l > MAX_MESSAGE) return -1;
        if (len - o < h + 4 + l) break;
        uint8_t *mask = p + o + h, *payload = mask + 4;
        for (uint64_t k = 0; k < l; k++) payload[k] ^= mask[k & 3];
        if (on_frame(fd, p[o] & 15, payload, l)) return -1;
        o += h + 4 + l;
    }
    return o;
}
static int64_t upgrade(int fd, uint8_t *p, size_t len) {
    char answer[256], key[32] = "", *field;
    uint8_t *end = memmem(p, len, "\r\n\r\n", 4);
    struct client *c = &clients[fd];
    if (!end) return len > 65536 ? -1 : 0;
    *end = 0;
    if (!(field = strcasestr((char *)p, "\r\nsec-websocket-key:")) || sscanf(field + 20, " %24s", key) != 1 || strlen(key) != 24) return -1;
    int sender = !strncmp((char *)p, "GET /hall-sender/", 17), member = !strncmp((char *)p, "GET /hall/", 10);
    c->kind = sender ? SENDER : member ? MEMBER : ECHO;
    if (member) { c->place = member_count; members[member_count++] = fd; }
    accept_key(key, key);
    int size = sprintf(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", key);
    put(fd, (uint8_t *)answer, size);
    return end + 4 - p;
}
static void on_read(int fd) {
    struct client *c = &clients[fd];
    size_t have = c->in_len;
    if (have) memcpy(rb, c->in, have);
    ssize_t r = recv(fd, rb + have, sizeof rb - have - 1, 0);
    if (r < 0 && errno == EAGAIN) return;
    if (r <= 0) { drop(fd); return; }
    size_t len = have + r;
    int64_t used = c->kind == NEW ? upgrade(fd, rb, len) : 0;
    if (used >= 0 && c->kind != NEW) {
        int64_t more = frames(fd, rb + used, len - used);
        used = more < 0 ? more : used + more;
    }
    if (used < 0) { drop(fd); return; }
    len -= used;
    free(c->in);
    c->in = len ? memcpy(malloc(len), rb + used, len) : NULL;
    c->in_len = len;
}
static void on_accept(int listening) {
    for (int fd, one = 1; (fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        if (fd >= MOST) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
        clients[fd].open = 1;
    }
}
int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001), .sin_port = htons(argc > 1 ? atoi(argv[1]) : 8000)};
    struct rlimit files;
    struct epoll_event ev[1024];
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (void *)&at, sizeof at) || listen(listening, 4096)) { perror("floor"); return 1; }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    ep = epoll_create1(0);
    struct epoll_event first = {.events = EPOLLIN, .data.fd = listening};
    epoll_ctl(ep, EPOLL_CTL_ADD, listening, &first);
    for (;;) {
        int count = epoll_wait(ep, ev, 1024, -1);
        for (int j = 0; j < count; j++) {
            int fd = ev[j].data.fd;
            if (fd == listening) { on_accept(fd); continue; }
            if (!clients[fd].open) continue;
            if (ev[j].events & EPOLLOUT && clients[fd].out_len) put_rest(fd);
            if (ev[j].events & ~EPOLLOUT) on_read(fd);
        }
    }
}
