/* Load on an OpenAI-style server, by a closed loop: each connection sends its next request when it
 * has the whole answer.
 *
 *   load [-c CONNECTIONS] [-d SECONDS] [-n REQUESTS] [-s SECONDS] [-H 'NAME: VALUE']... [-k]
 *        ADDRESS PORT PATH BODYFILE
 *
 *   -d  end after this time (5)          -s  spread the first requests over this time, so that
 *   -n  or after this many answers           paced streams do not tick in step
 *   -k  give each request an Idempotency-Key of its own
 *
 * Prints one line of JSON. `hop` is how long a word of the mock took from its making to this
 * program, read from its stamp (common.h); `gap_max` the longest time in which no answer ended.
 * One thread, epoll. */
#define _GNU_SOURCE
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LONGEST_HEAD = 16 * 1024, EVENTS_AT_ONCE = 256 };

/* A histogram that keeps the first six bits of a value: within 3.2 % of it. */
enum { STEPS = 64 };
typedef struct {
    int64_t count, sum, max;
    uint32_t cells[STEPS * 64];
} histogram;

static void add(histogram *h, int64_t value)
{
    if (value < 0)
        value = 0;
    int power = value < STEPS ? 0 : 58 - __builtin_clzll((uint64_t)value);
    h->cells[power ? power * STEPS + ((value >> power) & (STEPS - 1)) : value]++;
    h->count++;
    h->sum += value;
    if (value > h->max)
        h->max = value;
}

static int64_t quantile(const histogram *h, double share)
{
    int64_t wanted = (int64_t)(share * (double)h->count), seen = 0;
    for (int i = 0; i < STEPS * 64; i++) {
        seen += h->cells[i];
        if (seen > wanted)
            return (int64_t)(i % STEPS) << (i / STEPS);
    }
    return h->max;
}

typedef enum { HEAD, LENGTH, TO_CLOSE, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER } reading;

typedef struct {
    int fd, busy, status, keep;
    int64_t began;
    reading state;
    char head[LONGEST_HEAD];
    size_t head_size;
    int64_t left; /* bytes of the body, or of the chunk */
    int in_extension, line_size;
    /* Of the body */
    int said;   /* some of it has come */
    int digits; /* of the stamp being read; -1: none */
    int64_t stamp;
} connection;

static histogram latency, first_byte, hop;
static int64_t answers, failures, words, most_answers, ended_at, longest_gap;
static int statuses[1000], poller, unique_keys, port, connections = 16;
static const char *address;
static char headers[8192], *request;
static size_t request_size, key_at;
static int64_t next_key;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static void connect_to_it(connection *c)
{
    int on = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to))
        die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &wanted);
    c->busy = 0;
}

static void reconnect(connection *c)
{
    close(c->fd);
    connect_to_it(c);
}

static void ask(connection *c)
{
    if (unique_keys) {
        char digits[17];
        snprintf(digits, sizeof digits, "%016llx", (unsigned long long)++next_key);
        memcpy(request + key_at, digits, 16);
    }
    c->busy = 1;
    c->state = HEAD;
    c->head_size = 0;
    c->said = 0;
    c->digits = -1;
    c->began = now_us();
    if (send(c->fd, request, request_size, MSG_NOSIGNAL) == (ssize_t)request_size)
        return;
    reconnect(c); /* it was closed between two requests */
    c->busy = 1;
    if (send(c->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size)
        die("send");
}

static int enough(void)
{
    return most_answers && answers + failures >= most_answers;
}

static void answered(connection *c, int64_t now)
{
    if (c->status >= 200 && c->status < 300) {
        answers++;
        add(&latency, now - c->began);
        if (ended_at && now - ended_at > longest_gap)
            longest_gap = now - ended_at;
        ended_at = now;
    } else {
        failures++;
    }
    if (c->status >= 0 && c->status < 1000)
        statuses[c->status]++;
    c->busy = 0;
    if (!c->keep)
        reconnect(c);
    if (!enough())
        ask(c);
}

static void read_body(connection *c, const char *from, int64_t size, int64_t now)
{
    if (!c->said && size)
        add(&first_byte, now - c->began);
    c->said |= size > 0;
    for (int64_t i = 0; i < size; i++) {
        char byte = from[i];
        if (byte == 'Q') {
            c->digits = 0;
            c->stamp = 0;
        } else if (c->digits >= 0 && byte >= 'a' && byte <= 'z') {
            c->stamp = 26 * c->stamp + (byte - 'a');
            if (++c->digits == STAMP_DIGITS) {
                int64_t range = stamp_range();
                add(&hop, (now % range - c->stamp + range) % range);
                words++;
                c->digits = -1;
            }
        } else {
            c->digits = -1;
        }
    }
}

/* Tell from a whole head how the body is delimited. */
static void read_head(connection *c)
{
    int64_t length = -1;
    int chunked = 0;
    c->status = atoi(c->head + 9);
    c->keep = 1;
    for (char *line = strstr(c->head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, "content-length:", 15))
            length = atoll(line + 15);
        else if (!strncasecmp(line, "transfer-encoding:", 18))
            chunked = 1;
        else if (!strncasecmp(line, "connection: close", 17))
            c->keep = 0;
    }
    c->left = chunked ? 0 : length;
    c->state = chunked ? CHUNK_SIZE : length >= 0 ? LENGTH : TO_CLOSE;
    c->in_extension = 0;
}

static int digit(char byte)
{
    return byte <= '9' ? byte - '0' : (byte | 32) - 'a' + 10;
}

/* Take some bytes. 1: the answer is whole, 0: more is to come, -1: it is no HTTP. */
static int take(connection *c, const char *from, int64_t size, int64_t now)
{
    while (size > 0) {
        char byte = *from;
        switch (c->state) {
        case HEAD: {
            size_t before = c->head_size, room = LONGEST_HEAD - 1 - before;
            size_t taken = (size_t)size < room ? (size_t)size : room;
            if (!taken)
                return -1;
            memcpy(c->head + before, from, taken);
            c->head_size += taken;
            c->head[c->head_size] = 0;
            char *end = memmem(c->head, c->head_size, "\r\n\r\n", 4);
            if (end) {
                taken = (size_t)(end + 4 - c->head) - before;
                *end = 0;
                read_head(c);
                if (c->state == LENGTH && c->left == 0)
                    return 1;
            }
            from += taken;
            size -= (int64_t)taken;
            continue;
        }
        case TO_CLOSE:
            read_body(c, from, size, now);
            return 0;
        case LENGTH:
        case CHUNK: {
            int64_t taken = size < c->left ? size : c->left;
            read_body(c, from, taken, now);
            from += taken;
            size -= taken;
            c->left -= taken;
            if (c->left)
                continue;
            if (c->state == LENGTH)
                return 1;
            c->state = CHUNK_END;
            continue;
        }
        case CHUNK_SIZE:
            if (byte == '\n') {
                c->state = c->left ? CHUNK : TRAILER;
                c->line_size = 0;
            } else if (byte == ';') {
                c->in_extension = 1;
            } else if (byte != '\r' && !c->in_extension) {
                c->left = 16 * c->left + digit(byte);
            }
            break;
        case CHUNK_END:
            if (byte == '\n') {
                c->state = CHUNK_SIZE;
                c->in_extension = 0;
            }
            break;
        case TRAILER:
            if (byte == '\n') {
                if (!c->line_size)
                    return 1;
                c->line_size = 0;
            } else if (byte != '\r') {
                c->line_size++;
            }
            break;
        }
        from++;
        size--;
    }
    return 0;
}

static void readable(connection *c)
{
    static char bytes[256 * 1024];
    ssize_t size = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    int64_t now = now_us();
    if (size < 0 && errno == EAGAIN)
        return;
    if (size > 0) {
        int whole = take(c, bytes, size, now);
        if (whole == 1)
            answered(c, now);
        if (whole >= 0)
            return;
    }
    if (!c->busy) { /* closed between two requests */
        reconnect(c);
        return;
    }
    c->keep = 0;
    if (size > 0 || c->state != TO_CLOSE)
        c->status = 0; /* cut */
    answered(c, now);
}

static void build_request(const char *path, const char *file)
{
    static char body[1 << 20];
    FILE *in = fopen(file, "rb");
    if (!in)
        die(file);
    size_t size = fread(body, 1, sizeof body, in);
    fclose(in);
    if (unique_keys)
        strcat(headers, "Idempotency-Key: 0000000000000000\r\n");
    request = malloc(size + sizeof headers + 1024);
    request_size = (size_t)sprintf(request,
        "POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\n"
        "Accept: */*\r\n%sContent-Length: %zu\r\n\r\n", path, address, port, headers, size);
    if (unique_keys)
        key_at = (size_t)(strstr(request, "Idempotency-Key: ") - request) + 17;
    memcpy(request + request_size, body, size);
    request_size += size;
}

static void report(double seconds)
{
    printf("{\"connections\":%d,\"seconds\":%.3f,\"answers\":%lld,\"failures\":%lld,"
           "\"words\":%lld,", connections, seconds, (long long)answers, (long long)failures,
           (long long)words);
    const struct { const char *name; const histogram *of; } told[] = {
        {"latency", &latency}, {"first_byte", &first_byte}, {"hop", &hop}};
    for (int i = 0; i < 3; i++)
        printf("\"%s\":{\"p50\":%lld,\"p99\":%lld,\"max\":%lld},", told[i].name,
               (long long)quantile(told[i].of, .5), (long long)quantile(told[i].of, .99),
               (long long)told[i].of->max);
    printf("\"gap_max\":%lld,\"statuses\":{", (long long)longest_gap);
    const char *comma = "";
    for (int i = 0; i < 1000; i++)
        if (statuses[i]) {
            printf("%s\"%d\":%d", comma, i, statuses[i]);
            comma = ",";
        }
    printf("}}\n");
}

int main(int count, char **argument)
{
    double seconds = 5, spread = 0;
    int option;
    while ((option = getopt(count, argument, "+c:d:n:s:H:k")) > 0)
        switch (option) {
        case 'c': connections = atoi(optarg); break;
        case 'd': seconds = atof(optarg); break;
        case 'n': most_answers = atoll(optarg); break;
        case 's': spread = atof(optarg); break;
        case 'H': strcat(strcat(headers, optarg), "\r\n"); break;
        case 'k': unique_keys = 1; break;
        default: return 2;
        }
    if (count - optind != 4) {
        fprintf(stderr, "usage: load [OPTION]... ADDRESS PORT PATH BODYFILE\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    address = argument[optind];
    port = atoi(argument[optind + 1]);
    build_request(argument[optind + 2], argument[optind + 3]);
    poller = epoll_create1(0);
    connection *all = calloc((size_t)connections, sizeof *all);
    for (int i = 0; i < connections; i++)
        connect_to_it(&all[i]);
    next_key = now_us() << 16; /* another run has other keys */
    int64_t began = now_us(), end = began + (int64_t)(seconds * 1e6), now;
    int asked = 0;
    struct epoll_event events[EVENTS_AT_ONCE];
    while ((now = now_us()) < end && !enough()) {
        int64_t until = end;
        for (; asked < connections; asked++) {
            int64_t turn = began + (int64_t)(spread * 1e6 * asked / connections);
            if (turn > now) {
                until = turn < end ? turn : end;
                break;
            }
            ask(&all[asked]);
        }
        struct timespec timeout = {(until - now) / 1000000, ((until - now) % 1000000) * 1000};
        int ready = epoll_pwait2(poller, events, EVENTS_AT_ONCE, &timeout, NULL);
        for (int i = 0; i < ready; i++)
            readable(events[i].data.ptr);
    }
    report((double)(now_us() - began) / 1e6);
    return 0;
}
