/* A model server that costs next to nothing: what a gateway adds can be seen.
 *
 *   mock ADDRESS PORT INTERVAL_US WORDS_PER_WRITE [WORDS_PER_SENTENCE]
 *
 * It says as many words as the request's max_tokens asks for, WORDS_PER_WRITE at a time and
 * INTERVAL_US apart (0: as fast as the socket takes them). With WORDS_PER_SENTENCE it writes as models
 * do: each word after its space, and a stop behind the last one of a sentence. Three dialects:
 *
 *   /v2/models/tensorrt_llm/generate_stream  llmapi: all text so far in each event, then a reason
 *   /v2/models/ensemble/generate_stream      new text and token counts in each event, no reason
 *   /v1/chat/completions                     OpenAI chunks; one JSON where "stream" is not true
 *
 * A model that is asked with a guide says its words inside a JSON object. Anything that is no POST,
 * or goes to /v1/traces, gets 200 and an empty object. One thread, epoll. */
#define _GNU_SOURCE
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LONGEST_REQUEST = 1024 * 1024, INPUT_TOKENS = 20, EVENTS_AT_ONCE = 256 };

typedef enum { LLMAPI, ENSEMBLE, OPENAI } dialect;

typedef struct {
    char *bytes;
    size_t size, room;
} buffer;

typedef struct connection {
    int fd;
    char request[LONGEST_REQUEST];
    size_t request_size;
    buffer out; /* not sent yet */
    size_t sent;
    /* Of the stream in work */
    int streaming, words, said, usage, guided;
    dialect speaks;
    buffer text; /* all that was said, for the dialect that repeats it */
    int64_t due;
    struct connection *next; /* in the queue of those that wait for their time */
    int queued, gone;
} connection;

static int poller, words_per_write, words_per_sentence;
static int64_t interval;
static connection *first, *last; /* one interval for all: the queue is sorted by itself */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Buffers */

static void reserve(buffer *b, size_t more)
{
    if (b->size + more <= b->room)
        return;
    b->room = 2 * (b->size + more);
    b->bytes = realloc(b->bytes, b->room);
    if (!b->bytes)
        die("realloc");
}

static void put(buffer *b, const char *bytes, size_t size)
{
    reserve(b, size);
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

static void print(buffer *b, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    reserve(b, 1024); /* no format of ours makes more, apart from texts, which are put */
    b->size += (size_t)vsnprintf(b->bytes + b->size, 1024, format, arguments);
    va_end(arguments);
}

/* What it says */

#define CHUNK_HEAD "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\"," \
                   "\"created\":1700000000,\"model\":\"mock\","

static void say_word(connection *c, buffer *event)
{
    char word[STAMP_SIZE + 1];
    int length = STAMP_SIZE;
    c->said++;
    if (words_per_sentence) {
        word[0] = ' ';
        write_stamp(word + 1, now_us() % stamp_range());
        word[STAMP_SIZE] = '.';
        length += c->said % words_per_sentence == 0;
    } else {
        write_stamp(word, now_us() % stamp_range());
    }
    int whole = c->said == c->words;
    const char *open = c->guided && c->said == 1 ? "{\\\"say\\\":\\\"" : "";
    const char *close = c->guided && whole ? "\\\"}" : "";
    switch (c->speaks) {
    case LLMAPI:
        print(&c->text, "%s%.*s%s", open, length, word, close);
        print(event, "data: {\"finish_reason\":\"%s\",\"model_name\":\"tensorrt_llm\","
                     "\"model_version\":\"1\",\"text_output\":\"", whole ? "length" : "None");
        put(event, c->text.bytes, c->text.size);
        print(event, "\"}\n\n");
        break;
    case ENSEMBLE:
        print(event, "data: {\"model_name\":\"ensemble\",\"model_version\":\"1\","
                     "\"num_input_tokens\":%d,\"num_output_tokens\":%d,\"text_output\":\"%s%.*s%s\"}\n\n",
              INPUT_TOKENS, c->said, open, length, word, close);
        break;
    case OPENAI:
        print(event, CHUNK_HEAD "\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\"%s%.*s%s\"},"
                                "\"finish_reason\":null}]}\n\n",
              c->said == 1 ? "\"role\":\"assistant\"," : "", open, length, word, close);
        if (!whole)
            break;
        print(event, CHUNK_HEAD "\"choices\":[{\"index\":0,\"delta\":{},"
                                "\"finish_reason\":\"length\"}]}\n\n");
        if (c->usage)
            print(event, CHUNK_HEAD "\"choices\":[],\"usage\":{\"prompt_tokens\":%d,"
                                    "\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n",
                  INPUT_TOKENS, c->said, INPUT_TOKENS + c->said);
        print(event, "data: [DONE]\n\n");
        break;
    }
}

/* Each event is an HTTP chunk of its own, as Triton sends them. */
static void say(connection *c)
{
    static buffer event;
    for (int i = 0; i < words_per_write && c->said < c->words; i++) {
        event.size = 0;
        say_word(c, &event);
        print(&c->out, "%zx\r\n", event.size);
        put(&c->out, event.bytes, event.size);
        put(&c->out, "\r\n", 2);
    }
    if (c->said == c->words) {
        put(&c->out, "0\r\n\r\n", 5);
        c->streaming = 0;
    }
}

static void say_whole(connection *c)
{
    static buffer body;
    body.size = 0;
    print(&body, "{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion\",\"created\":1700000000,"
                 "\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                 "\"content\":\"");
    for (int i = 0; i < c->words; i++) {
        char word[STAMP_SIZE];
        write_stamp(word, now_us() % stamp_range());
        put(&body, word, STAMP_SIZE);
    }
    print(&body, "\"},\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":{"
                 "\"prompt_tokens\":%d,\"completion_tokens\":%d,\"total_tokens\":%d}}",
          INPUT_TOKENS, c->words, INPUT_TOKENS + c->words);
    print(&c->out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n",
          body.size);
    put(&c->out, body.bytes, body.size);
}

/* The queue of streams that wait for their time */

static void enqueue(connection *c)
{
    c->queued = 1;
    c->next = NULL;
    if (last)
        last->next = c;
    else
        first = c;
    last = c;
}

static connection *dequeue(void)
{
    connection *c = first;
    first = c->next;
    if (!first)
        last = NULL;
    c->queued = 0;
    return c;
}

/* Connections */

static void release(connection *c)
{
    free(c->out.bytes);
    free(c->text.bytes);
    free(c);
}

static void drop(connection *c)
{
    if (!c->gone)
        close(c->fd);
    c->gone = 1;
    if (!c->queued) /* else when its turn comes */
        release(c);
}

static void want_to_write(connection *c, int yes)
{
    struct epoll_event wanted = {.events = EPOLLIN | (yes ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &wanted);
}

/* 1: all was sent, 0: the socket is full, -1: the peer has gone. */
static int flush_out(connection *c)
{
    while (c->sent < c->out.size) {
        ssize_t n = send(c->fd, c->out.bytes + c->sent, c->out.size - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            want_to_write(c, 1);
            return 0;
        }
        if (n <= 0)
            return -1;
        c->sent += (size_t)n;
    }
    c->out.size = c->sent = 0;
    return 1;
}

/* Requests */

static int has(const char *from, size_t size, const char *what)
{
    return memmem(from, size, what, strlen(what)) != NULL;
}

static int number_after(const char *from, size_t size, const char *key, int otherwise)
{
    const char *found = memmem(from, size, key, strlen(key));
    return found ? atoi(found + strlen(key)) : otherwise;
}

static void answer(connection *c, const char *head, const char *body, size_t body_size)
{
    if (strncmp(head, "POST ", 5) != 0 || strncmp(head, "POST /v1/traces ", 16) == 0) {
        print(&c->out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                       "content-length: 2\r\n\r\n%s", head[0] == 'H' ? "" : "{}");
        return;
    }
    c->words = number_after(body, body_size, "max_tokens\":", 0);
    if (c->words <= 0)
        c->words = number_after(body, body_size, "max_completion_tokens\":", 16);
    c->said = 0;
    c->text.size = 0;
    c->guided = has(body, body_size, "\"guided_decoding_guide") ||
                has(body, body_size, "\"response_format\"");
    const char *path = head + 5;
    c->speaks = strncmp(path, "/v1/", 4) == 0                  ? OPENAI
                : strncmp(path, "/v2/models/ensemble/", 20) == 0 ? ENSEMBLE
                                                                 : LLMAPI;
    if (c->speaks == OPENAI && !has(body, body_size, "\"stream\":true")) {
        say_whole(c);
        return;
    }
    c->usage = has(body, body_size, "\"include_usage\":true");
    print(&c->out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                   "transfer-encoding: chunked\r\n\r\n");
    c->streaming = 1;
    c->due = now_us() + interval;
    if (interval == 0)
        say(c); /* the first words go with the head */
    if (c->streaming)
        enqueue(c);
}

/* Answer what has come, one request after the other. -1: the peer has gone. */
static int take(connection *c)
{
    while (!c->streaming && c->out.size == 0 && c->request_size > 0) {
        char *end = memmem(c->request, c->request_size, "\r\n\r\n", 4);
        if (!end)
            return 0;
        size_t head_size = (size_t)(end + 4 - c->request), body_size = 0;
        for (char *line = c->request; line < end;) {
            if (strncasecmp(line, "content-length:", 15) == 0)
                body_size = strtoul(line + 15, NULL, 10);
            line = (char *)memmem(line, (size_t)(end + 2 - line), "\r\n", 2) + 2;
        }
        size_t whole = head_size + body_size;
        if (whole > LONGEST_REQUEST)
            return -1;
        if (c->request_size < whole)
            return 0;
        answer(c, c->request, c->request + head_size, body_size);
        c->request_size -= whole;
        memmove(c->request, c->request + whole, c->request_size);
        if (flush_out(c) < 0)
            return -1;
    }
    return 0;
}

static int readable(connection *c)
{
    ssize_t n = recv(c->fd, c->request + c->request_size, LONGEST_REQUEST - c->request_size, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        return -1;
    if (n > 0)
        c->request_size += (size_t)n;
    return take(c);
}

static int writable(connection *c)
{
    int done = flush_out(c);
    if (done <= 0)
        return done;
    want_to_write(c, 0);
    if (c->streaming && !c->queued) {
        c->due = now_us() + interval;
        enqueue(c);
    }
    return take(c);
}

/* Say the next words of every stream whose time has come. */
static void speak(void)
{
    int64_t now = now_us();
    connection *stop = last; /* those that come again wait until sockets were looked at */
    while (first && first->due <= now) {
        connection *c = dequeue();
        int end = c == stop;
        if (c->gone) {
            release(c);
        } else {
            say(c);
            int done = flush_out(c);
            if (done < 0) {
                drop(c);
            } else if (done == 1) { /* else `writable` goes on */
                c->due = interval ? c->due + interval : now;
                if (c->streaming)
                    enqueue(c);
                else if (take(c) < 0)
                    drop(c);
            }
        }
        if (end)
            break;
    }
}

static void accept_all(int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        connection *c = calloc(1, sizeof *c);
        if (!c)
            die("calloc");
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &wanted);
    }
}

static int listen_on(const char *address, int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, address, &at.sin_addr);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096))
        die("listen");
    return fd;
}

int main(int count, char **argument)
{
    if (count != 5 && count != 6) {
        fprintf(stderr, "usage: mock ADDRESS PORT INTERVAL_US WORDS_PER_WRITE [WORDS_PER_SENTENCE]\n");
        return 2;
    }
    interval = atoll(argument[3]);
    words_per_write = atoi(argument[4]);
    words_per_sentence = count == 6 ? atoi(argument[5]) : 0;
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on(argument[1], atoi(argument[2]));
    poller = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS_AT_ONCE];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &wanted);
    for (;;) {
        int64_t left = first ? first->due - now_us() : 3600 * 1000000LL;
        if (left < 0)
            left = 0;
        struct timespec timeout = {left / 1000000, (left % 1000000) * 1000};
        int ready = epoll_pwait2(poller, events, EVENTS_AT_ONCE, &timeout, NULL);
        for (int i = 0; i < ready; i++) {
            connection *c = events[i].data.ptr;
            if (!c) {
                accept_all(listener);
                continue;
            }
            int bad = (events[i].events & EPOLLOUT) ? writable(c) : 0;
            if (bad >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                bad = readable(c);
            if (bad < 0)
                drop(c);
        }
        speak();
    }
}
