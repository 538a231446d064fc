/* cases FILE DIRECTORY: does the steps of a file of behaviour cases (tests/cases/README.md) through the C interface, and
 * writes the file anew with what came of them. */
#define _GNU_SOURCE
#include "cases.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void broken(const char *what, const char *which) {
    fprintf(stderr, "cases: %s: %s\n", what, which);
    exit(3);
}

void begin(void) {
    fputs("=", stdout);
}

void line_end(void) {
    putchar('\n');
}

void line(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("= ", stdout);
    vprintf(format, values);
    putchar('\n');
    va_end(values);
}

void quote(lxi_bytes bytes) {
    fputs(" \"", stdout);
    for (size_t i = 0; i < bytes.len; i++) {
        uint8_t byte = bytes.data[i];
        switch (byte) {
        case '"': fputs("\\\"", stdout); break;
        case '\\': fputs("\\\\", stdout); break;
        case '\n': fputs("\\n", stdout); break;
        case '\t': fputs("\\t", stdout); break;
        case '\r': fputs("\\r", stdout); break;
        default:
            if (byte >= ' ' && byte <= '~')
                putchar(byte);
            else
                printf("\\x%02x", byte);
        }
    }
    putchar('"');
}

void quote_str(lxi_str text) {
    quote((lxi_bytes){(const uint8_t *)text.data, text.len});
}

void show_kind(const lxi_error_info *info) {
    fputs(lxi_status_name(info->status), stdout);
    if (info->template_stage != LXI_STAGE_NONE)
        fputs(info->template_stage == LXI_STAGE_PARSE ? " parse" : " exec", stdout);
    if (info->limit.len > 0)
        printf(" %.*s", (int)info->limit.len, info->limit.data);
}

int failed(lxi_status status, lxi_error **place) {
    lxi_error *error = *place;
    lxi_error_info info = {.size = sizeof info};
    if (status == LXI_OK) {
        if (error != NULL)
            broken("an error of a call that worked", "");
        return 0;
    }
    if (lxi_error_get(error, &info) != LXI_OK || info.status != status)
        broken("the error does not say what was returned", lxi_status_name(status));
    if (info.message.len == 0)
        broken("an error without a message", lxi_status_name(status));
    fputs("! ", stdout);
    /* A template that asks too much tells the limit, not the stage. */
    if (info.status == LXI_LIMIT_EXCEEDED)
        info.template_stage = LXI_STAGE_NONE;
    show_kind(&info);
    putchar('\n');
    lxi_error_free(error);
    *place = NULL;
    return 1;
}

lxi_str word(const struct words *words, size_t index) {
    if (index >= words->count)
        broken("too few words", words->count > 0 ? words->word[0].data : "");
    return words->word[index];
}

int is(lxi_str word, const char *text) {
    return word.len == strlen(text) && memcmp(word.data, text, word.len) == 0;
}

const char *chars(lxi_str word) {
    return word.data;
}

lxi_bytes bytes_of(lxi_str word) {
    return (lxi_bytes){(const uint8_t *)word.data, word.len};
}

int fingerprint_of(lxi_str word, lxi_fingerprint *fingerprint, const lxi_fingerprint **found) {
    lxi_error *error = NULL;
    *found = NULL;
    if (is(word, "-"))
        return 0;
    *found = fingerprint;
    return failed(lxi_fingerprint_parse(word, fingerprint, &error), &error);
}

void show_fingerprint(const lxi_fingerprint *fingerprint) {
    char text[LXI_FINGERPRINT_TEXT];
    if (lxi_fingerprint_format(fingerprint, text, sizeof text, NULL) != LXI_OK)
        broken("a fingerprint can't be shown", "");
    fputs(text, stdout);
}

void open_files(struct files *files, const struct words *words, size_t first) {
    memset(files, 0, sizeof *files);
    files->count = words->count - first;
    if (files->count < 1 || files->count > 2)
        broken("one file or two", chars(words->word[0]));
    for (size_t i = 0; i < files->count; i++) {
        files->input[i].size = sizeof files->input[i];
        files->input[i].kind = LXI_INPUT_FD;
        files->input[i].fd = open(chars(word(words, first + i)), O_RDONLY | O_CLOEXEC);
        if (files->input[i].fd < 0)
            broken("a file can't be opened", chars(word(words, first + i)));
    }
}

void close_files(struct files *files) {
    for (size_t i = 0; i < files->count; i++)
        close(files->input[i].fd);
}

static int hex(int digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    return digit - 'a' + 10;
}

/* Splits a line in place. */
static void split(char *text, struct words *words) {
    words->count = 0;
    char *from = text;
    while (*from != '\0') {
        char *to = from, *start = from;
        if (*from == '"') {
            for (from++; *from != '"'; from++) {
                if (*from == '\0')
                    broken("no closing quote", text);
                if (*from != '\\') {
                    *to++ = *from;
                    continue;
                }
                switch (*++from) {
                case 'n': *to++ = '\n'; break;
                case 't': *to++ = '\t'; break;
                case 'r': *to++ = '\r'; break;
                case 'x': *to++ = (char)(hex(from[1]) << 4 | hex(from[2])); from += 2; break;
                default: *to++ = *from;
                }
            }
            from++;
        } else {
            while (*from != '\0' && *from != ' ')
                from++;
            to = from;
        }
        char after = *from;
        if (after != '\0' && after != ' ')
            broken("words are separated by one blank", text);
        if (words->count == MOST_WORDS)
            broken("too many words", text);
        words->word[words->count++] = (lxi_str){start, (size_t)(to - start)};
        *to = '\0';
        if (after != '\0')
            from++;
    }
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *where) {
    (void)about;
    (void)kind;
    (void)where;
    return remove(path);
}

static void end_place(struct place *place) {
    end_serving(place);
    end_trust(place);
    end_oci(place);
    lxi_store_free(place->store);
    lxi_limits_free(place->limits);
    lxi_omissions_free(place->omissions);
    memset(place, 0, sizeof *place);
}

static void watch(struct place *place) {
    place->monitor = (lxi_monitor){.size = sizeof place->monitor};
    if (lxi_omissions_new(&place->omissions, NULL) != LXI_OK)
        broken("no record", "");
    place->monitor.omissions = place->omissions;
}

static void new_place(struct place *place, const char *directory) {
    end_place(place);
    if (chdir("/") != 0)
        broken("the root can't be entered", strerror(errno));
    nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (mkdir(directory, 0700) != 0 || chdir(directory) != 0)
        broken("the case's directory can't be made", strerror(errno));
    if (lxi_limits_new(&place->limits, NULL) != LXI_OK)
        broken("no limits", "");
    watch(place);
}

/* What the steps before left out; the next time it is what came after. */
static int omissions_step(struct place *place, const struct words *words) {
    static const char *const kinds[] = {"other",   "device",  "owner",   "set-id",    "xattr",       "time", "stray",
                                        "skipped", "dropped", "clamped", "defaulted", "not-honoured", "removed"};
    lxi_omissions_info info = {.size = sizeof info};
    if (!is(word(words, 0), "omissions"))
        return 0;
    if (lxi_omissions_get(place->omissions, &info, NULL) != LXI_OK)
        broken("a record says nothing", "");
    uint64_t counted = 0;
    for (size_t i = 0; i < info.kinds; i++) {
        lxi_str text;
        uint64_t count = 0;
        lxi_omissions_kind_at(place->omissions, i, &text, &count, NULL);
        counted += count;
    }
    if (counted != info.total)
        broken("the kinds are not the total", "");
    for (size_t i = 0; i < info.listed; i++) {
        lxi_omission omission = {.size = sizeof omission};
        if (lxi_omissions_at(place->omissions, i, &omission, NULL) != LXI_OK)
            broken("an omission is missing", "");
        printf("= %s", kinds[omission.kind]);
        quote(omission.path);
        quote_str(omission.text);
        line_end();
    }
    lxi_omissions_free(place->omissions);
    watch(place);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3)
        broken("usage", "cases FILE DIRECTORY");
    if (lxi_abi_version() != LXI_ABI_VERSION)
        broken("the library does not fit its header", lxi_version());
    FILE *source = fopen(argv[1], "r");
    if (source == NULL)
        broken("the file can't be opened", argv[1]);
    struct place place = {0};
    char *text = NULL;
    size_t room = 0;
    ssize_t length;
    while ((length = getline(&text, &room, source)) > 0) {
        if (text[length - 1] == '\n')
            text[--length] = '\0';
        if (strncmp(text, "= ", 2) == 0 || strncmp(text, "! ", 2) == 0)
            continue;
        puts(text);
        if (*text == '\0' || *text == '#')
            continue;
        if (strncmp(text, "case ", 5) == 0) {
            new_place(&place, argv[2]);
            continue;
        }
        struct words words;
        split(text, &words);
        if (!omissions_step(&place, &words) && !prepare_step(&place, &words) && !image_step(&place, &words) && !template_step(&place, &words) &&
            !store_step(&place, &words) && !tree_step(&place, &words) && !trust_step(&place, &words) && !oci_step(&place, &words) && !serving_step(&place, &words))
            broken("there is no such step", chars(words.word[0]));
    }
    end_place(&place);
    if (chdir("/") != 0)
        broken("the root can't be entered", strerror(errno));
    nftw(argv[2], remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(text);
    fclose(source);
    return 0;
}
