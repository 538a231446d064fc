/* Steps that prepare: files, archives, limits. */
#define _GNU_SOURCE
#include "cases.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void append(lxi_str file, const void *bytes, size_t length) {
    FILE *out = fopen(chars(file), "ab");
    if (out == NULL || fwrite(bytes, 1, length, out) != length || fclose(out) != 0)
        broken("a file can't be written", chars(file));
}

static void member(const struct words *words) {
    static const char zeros[512];
    lxi_str file = word(words, 1), kind = word(words, 2), name = word(words, 3), mode = word(words, 4);
    lxi_str content = words->count > 5 ? word(words, 5) : (lxi_str){"", 0};
    int is_link = is(kind, "1") || is(kind, "2");
    size_t size = is_link || is(kind, "3") ? 0 : content.len;
    char header[512] = {0}, number[16];
    memcpy(header, name.data, name.len);
    snprintf(number, sizeof number, "%7s", chars(mode));
    for (char *digit = number; *digit == ' '; digit++)
        *digit = '0';
    memcpy(header + 100, number, 7);
    memcpy(header + 108, "0000000", 7);
    memcpy(header + 116, "0000000", 7);
    snprintf(header + 124, 12, "%011zo", size);
    memcpy(header + 136, "14524776400", 11);
    memset(header + 148, ' ', 8);
    header[156] = kind.data[0];
    if (is_link)
        memcpy(header + 157, content.data, content.len);
    memcpy(header + 257, "ustar\0" "00", 8);
    if (is(kind, "3")) {
        unsigned major, minor;
        if (sscanf(chars(content), "%u:%u", &major, &minor) != 2)
            broken("no device number", chars(content));
        snprintf(header + 329, 8, "%07o", major);
        snprintf(header + 337, 8, "%07o", minor);
    }
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof header; i++)
        sum += (unsigned char)header[i];
    snprintf(header + 148, 8, "%06o", sum);
    header[155] = ' ';
    append(file, header, sizeof header);
    append(file, content.data, size);
    append(file, zeros, (512 - size % 512) % 512);
}

static void make_directories(lxi_str path) {
    char *copy = strdup(chars(path));
    for (char *slash = strchr(copy, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            broken("a directory can't be made", copy);
        *slash = '/';
    }
    if (mkdir(copy, 0777) != 0 && errno != EEXIST)
        broken("a directory can't be made", copy);
    free(copy);
}

int prepare_step(struct place *place, const struct words *words) {
    static const char end[1024];
    lxi_str name = word(words, 0);
    if (is(name, "member")) {
        member(words);
    } else if (is(name, "end")) {
        append(word(words, 1), end, sizeof end);
    } else if (is(name, "bytes")) {
        append(word(words, 1), word(words, 2).data, word(words, 2).len);
    } else if (is(name, "dir")) {
        make_directories(word(words, 1));
    } else if (is(name, "link")) {
        if (symlink(chars(word(words, 1)), chars(word(words, 2))) != 0)
            broken("a link can't be made", strerror(errno));
    } else if (is(name, "limit")) {
        lxi_error *error = NULL;
        uint64_t value = strtoull(chars(word(words, 2)), NULL, 10), found = 0;
        lxi_str limit = word(words, 1);
        if (failed(lxi_limits_set(place->limits, limit, value, &error), &error))
            return 1;
        if (lxi_limits_get(place->limits, limit, &found, NULL) != LXI_OK || found != value)
            broken("the limit is not what was set", chars(limit));
    } else {
        return 0;
    }
    return 1;
}
