/* Steps about servers, remotes, and what comes from them into a store or a tree. */
#define _GNU_SOURCE
#include "cases.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const lxi_str machine[] = {{"x86_64", 6}};

void end_serving(struct place *place) {
    /* The cache first, which asks the other one. */
    lxi_server_free(place->cache);
    place->cache = NULL;
    lxi_server_free(place->server);
    lxi_remote_free(place->remote);
    lxi_tree_free(place->tree);
    place->server = NULL;
    place->remote = NULL;
    place->tree = NULL;
}

static int has(lxi_str flags, char flag) {
    return memchr(flags.data, flag, flags.len) != NULL;
}

/* The case's settings, to be freed. */
static lxi_settings *settings(void) {
    lxi_settings *found = NULL;
    char here[4096];
    if (getcwd(here, sizeof here - 16) == NULL)
        broken("no working directory", "");
    strcat(here, "/settings");
    if (lxi_settings_open((lxi_str){here, strlen(here)}, &found, NULL) != LXI_OK)
        broken("settings can't be opened", here);
    return found;
}

static void log_line(void *user, lxi_str line) {
    *(size_t *)user += line.len > 0;
}

static void serve(struct place *place) {
    static const lxi_str listen[] = {{"http://127.0.0.1:0", 18}, {"127.0.0.1:0", 11}};
    lxi_settings *own = settings();
    lxi_buffer *pem = NULL;
    lxi_error *error = NULL;
    lxi_fingerprint fingerprint;
    lxi_server_options options = {.size = sizeof options,
                                  .listen = listen,
                                  .listen_len = 2,
                                  .directory = LXI_STR("server"),
                                  .trusted = LXI_STR("settings/client.crt"),
                                  .log = log_line,
                                  .log_user = &place->logged};
    lxi_server_free(place->server);
    place->server = NULL;
    place->logged = 0;
    if (lxi_settings_certificate(own, &pem, NULL) != LXI_OK)
        broken("no client certificate", "");
    lxi_buffer_free(pem);
    lxi_settings_free(own);
    if (!failed(lxi_server_start(place->store, &options, &place->server, &error), &error) &&
        lxi_server_fingerprint(place->server, &fingerprint, NULL) != LXI_OK)
        broken("the server has no certificate", "");
}

static void connect_to(struct place *place, const struct words *words) {
    lxi_str what = word(words, 1);
    lxi_error *error = NULL;
    lxi_known_remote known = {.size = sizeof known};
    lxi_remote_free(place->remote);
    place->remote = NULL;
    if (is(what, "registry")) {
        connect_registry(place, words);
        return;
    }
    if (is(what, "tree")) {
        char url[4200] = "file://";
        if (getcwd(url + 7, 4096) == NULL)
            broken("no working directory", "");
        strcat(url, "/");
        strncat(url, chars(word(words, 2)), 64);
        known.url = (lxi_str){url, strlen(url)};
        known.protocol = LXI_STR("simplestreams");
        failed(lxi_remote_connect(&known, NULL, &place->remote, &error), &error);
        return;
    }
    if (is(what, "server")) {
        if (lxi_server_url_at(place->server, 0, &known.url, NULL) != LXI_OK)
            broken("the server listens nowhere", "");
        failed(lxi_remote_connect(&known, NULL, &place->remote, &error), &error);
        return;
    }
    lxi_settings *own = settings();
    lxi_buffer *pem = NULL;
    if (is(what, "trusted")) {
        lxi_trust trust = 0;
        lxi_fingerprint shown, real;
        lxi_bytes bytes;
        lxi_server_url_at(place->server, 1, &known.url, NULL);
        lxi_server_fingerprint(place->server, &real, NULL);
        if (failed(lxi_remote_first_use(&known, NULL, &place->monitor, &trust, &pem, &shown, &error), &error))
            return;
        if (trust != LXI_TRUST_UNKNOWN || memcmp(&shown, &real, sizeof real) != 0)
            broken("another certificate", "");
        lxi_buffer_get(pem, &bytes, NULL);
        known.certificate = (lxi_str){(const char *)bytes.data, bytes.len};
        failed(lxi_settings_add(own, what, &known, &error), &error);
    }
    failed(lxi_settings_connect(own, what, NULL, &place->remote, &error), &error);
    lxi_buffer_free(pem);
    lxi_settings_free(own);
}

/* Serves the store as a cache of the remote `trusted`, and connects to it. */
static void cache(struct place *place) {
    static const lxi_str listen[] = {{"http://127.0.0.1:0", 18}};
    lxi_settings *own = settings();
    lxi_error *error = NULL;
    lxi_known_remote known = {.size = sizeof known};
    lxi_server_options options = {.size = sizeof options, .listen = listen, .listen_len = 1, .limits = place->limits, .upstream = LXI_STR("trusted")};
    if (lxi_server_start(place->store, &options, &place->cache, NULL) != LXI_INVALID_INPUT)
        broken("an upstream without settings", "");
    options.settings = own;
    lxi_remote_free(place->remote);
    place->remote = NULL;
    if (!failed(lxi_server_start(place->store, &options, &place->cache, &error), &error)) {
        lxi_server_url_at(place->cache, 0, &known.url, NULL);
        failed(lxi_remote_connect(&known, NULL, &place->remote, &error), &error);
    }
    lxi_settings_free(own);
}

static void remotes(void) {
    lxi_settings *own = settings();
    lxi_remote_list *list = NULL;
    lxi_error *error = NULL;
    size_t count = 0;
    if (!failed(lxi_settings_remotes(own, &list, &error), &error))
        lxi_remote_list_len(list, &count, NULL);
    for (size_t i = 0; i < count; i++) {
        lxi_known_remote known = {.size = sizeof known};
        lxi_str name;
        lxi_remote_list_at(list, i, &name, &known, NULL);
        printf("= %.*s", (int)name.len, name.data);
        quote_str(known.url);
        printf(" %.*s %s\n", (int)known.protocol.len, known.protocol.data, known.flags & LXI_REMOTE_PUBLIC ? "public" : "private");
    }
    lxi_remote_list_free(list);
    lxi_settings_free(own);
}

/* Shows what a cursor gives, and frees it. */
static void walk(struct place *place, lxi_image_cursor *cursor) {
    for (;;) {
        lxi_stored_image *image = NULL;
        lxi_error *error = NULL;
        lxi_stored_image_info info = {.size = sizeof info};
        if (failed(lxi_image_cursor_next(cursor, &place->monitor, &image, &error), &error) || image == NULL)
            break;
        lxi_stored_image_get(image, &info, NULL);
        fputs("= ", stdout);
        show_fingerprint(&info.fingerprint);
        line_end();
        lxi_stored_image_free(image);
    }
    lxi_image_cursor_free(cursor);
}

static uint32_t query_flags(lxi_str flags) {
    return (has(flags, 'p') ? LXI_QUERY_PUBLIC : 0) | (has(flags, 'q') ? LXI_QUERY_PRIVATE : 0) |
           (has(flags, 'c') ? LXI_QUERY_CACHED : 0) | (has(flags, 'k') ? LXI_QUERY_KEPT : 0) |
           (has(flags, 'u') ? LXI_QUERY_AUTO_UPDATE : 0) | (has(flags, 'a') ? LXI_QUERY_BY_ALIAS : 0);
}

static size_t aliases_of(lxi_str names, lxi_alias *aliases) {
    size_t count = 0;
    if (is(names, "-"))
        return 0;
    const char *name = chars(names), *comma;
    do {
        comma = strchrnul(name, ',');
        aliases[count++] = (lxi_alias){.name = {name, (size_t)(comma - name)}};
        name = comma + 1;
    } while (*comma != '\0');
    return count;
}

static void bring(struct place *place, const struct words *words) {
    lxi_alias aliases[8];
    lxi_copy_options options = {.size = sizeof options, .aliases = aliases, .architectures = machine, .architectures_len = 1, .monitor = &place->monitor};
    lxi_stored_image *image = NULL;
    lxi_error *error = NULL;
    lxi_status status;
    if (is(word(words, 0), "fetch")) {
        status = lxi_store_get_or_fetch(place->store, place->remote, word(words, 1), &options, &image, &error);
    } else {
        lxi_str flags = word(words, 1);
        options.flags = (has(flags, 'p') ? LXI_COPY_PUBLIC : 0) | (has(flags, 'u') ? LXI_COPY_AUTO_UPDATE : 0) |
                        (has(flags, 'r') ? LXI_COPY_REUSE_ALIASES : 0) | (has(flags, 'x') ? LXI_COPY_REPLACE_IMAGES : 0) |
                        (has(flags, 'n') ? LXI_COPY_COPY_ALIASES : 0);
        options.aliases_len = aliases_of(word(words, 2), aliases);
        status = lxi_store_copy_from(place->store, place->remote, word(words, 3), &options, &image, &error);
    }
    if (!failed(status, &error))
        show_image(image);
}

static void upload(struct place *place, const struct words *words) {
    lxi_alias aliases[8];
    lxi_str flags = word(words, 1);
    lxi_upload_options options = {.size = sizeof options, .aliases = aliases, .monitor = &place->monitor};
    lxi_fingerprint fingerprint;
    const lxi_fingerprint *of;
    lxi_error *error = NULL;
    options.flags = (has(flags, 'p') ? LXI_UPLOAD_PUBLIC : 0) | (has(flags, 'r') ? LXI_UPLOAD_REUSE_ALIASES : 0) |
                    (has(flags, 'n') ? LXI_UPLOAD_COPY_ALIASES : 0);
    options.aliases_len = aliases_of(word(words, 2), aliases);
    if (!fingerprint_of(word(words, 3), &fingerprint, &of))
        failed(lxi_remote_upload(place->remote, place->store, of, &options, &error), &error);
}

static void refresh(struct place *place, int dry) {
    static const char *const names[] = {"other", "other", "current", "replaced", "failed"};
    lxi_refresh_options options = {.size = sizeof options, .flags = dry ? LXI_REFRESH_DRY_RUN : 0, .monitor = &place->monitor};
    lxi_settings *own = settings();
    lxi_refresh_report *report = NULL;
    lxi_error *error = NULL;
    size_t count = 0;
    if (!failed(lxi_store_refresh(place->store, own, NULL, 0, &options, &report, &error), &error))
        lxi_refresh_report_len(report, &count, NULL);
    for (size_t i = 0; i < count; i++) {
        lxi_fingerprint image, newest;
        lxi_refreshed outcome = 0;
        lxi_refresh_report_at(report, i, &image, &outcome, &newest, NULL);
        printf("= %s ", names[outcome]);
        show_fingerprint(&image);
        if (outcome == LXI_REFRESHED_REPLACED) {
            putchar(' ');
            show_fingerprint(&newest);
        }
        if (outcome == LXI_REFRESHED_FAILED) {
            lxi_error_info info = {.size = sizeof info};
            lxi_refresh_report_error_at(report, i, &info, NULL);
            printf(" %s", lxi_status_name(info.status));
        }
        line_end();
    }
    lxi_refresh_report_free(report);
    lxi_settings_free(own);
}

static void mirror(struct place *place, const struct words *words) {
    lxi_mirror_options options = {.size = sizeof options,
                                  .flags = has(word(words, 2), 'd') ? LXI_MIRROR_DELETE : 0,
                                  .filters = &words->word[3],
                                  .filters_len = words->count - 3,
                                  .monitor = &place->monitor};
    lxi_mirrored *done = NULL;
    lxi_error *error = NULL;
    lxi_mirrored_info info = {.size = sizeof info};
    lxi_fingerprint of;
    lxi_status status = is(word(words, 1), "store") ? lxi_mirror_to_store(place->remote, place->store, &options, &done, &error)
                                                    : lxi_mirror_to_tree(place->remote, place->tree, &options, &done, &error);
    if (failed(status, &error))
        return;
    lxi_mirrored_get(done, &info, NULL);
    for (size_t i = 0; i < info.copied; i++) {
        lxi_stored_image *image = NULL;
        lxi_stored_image_info about = {.size = sizeof about};
        lxi_mirrored_copied_at(done, i, &image, NULL);
        lxi_stored_image_get(image, &about, NULL);
        fputs("= copied ", stdout);
        show_fingerprint(&about.fingerprint);
        line_end();
        lxi_stored_image_free(image);
    }
    for (size_t i = 0; i < info.removed; i++) {
        lxi_mirrored_removed_at(done, i, &of, NULL);
        fputs("= removed ", stdout);
        show_fingerprint(&of);
        line_end();
    }
    for (size_t i = 0; i < info.failed; i++) {
        lxi_error_info why = {.size = sizeof why};
        lxi_mirrored_failed_at(done, i, &of, &why, NULL);
        fputs("= failed ", stdout);
        show_fingerprint(&of);
        printf(" %s\n", lxi_status_name(why.status));
    }
    line("kept %zu", info.kept);
    lxi_mirrored_free(done);
}

static void show_delta(const lxi_delta_info *info) {
    line("delta %llu new %llu copied %llu", (unsigned long long)info->delta_bytes, (unsigned long long)info->new_bytes,
         (unsigned long long)info->copied_bytes);
}

/* The steps about remotes of the settings. */
static int settings_step(const struct words *words) {
    lxi_str name = word(words, 0);
    lxi_error *error = NULL;
    if (!is(name, "remote-add") && !is(name, "remote-rename") && !is(name, "remote-set-url") && !is(name, "remote-remove"))
        return 0;
    lxi_settings *own = settings();
    if (is(name, "remote-add")) {
        lxi_known_remote known = {.size = sizeof known, .url = word(words, 2), .protocol = word(words, 3)};
        failed(lxi_settings_add(own, word(words, 1), &known, &error), &error);
    } else if (is(name, "remote-rename")) {
        failed(lxi_settings_rename(own, word(words, 1), word(words, 2), &error), &error);
    } else if (is(name, "remote-set-url")) {
        failed(lxi_settings_set_url(own, word(words, 1), word(words, 2), &error), &error);
    } else {
        failed(lxi_settings_remove(own, word(words, 1), &error), &error);
    }
    lxi_settings_free(own);
    return 1;
}

/* The steps about queries and deltas. */
static int asking_step(struct place *place, const struct words *words) {
    lxi_str name = word(words, 0);
    lxi_error *error = NULL;
    lxi_fingerprint fingerprint;
    const lxi_fingerprint *of;
    if (is(name, "query") || is(name, "totals")) {
        lxi_image_query query = {.size = sizeof query, .flags = query_flags(word(words, 1)), .image_type = has(word(words, 1), 'v') ? LXI_TYPE_VIRTUAL_MACHINE : 0};
        lxi_image_cursor *cursor = NULL;
        uint64_t images = 0, bytes = 0;
        if (is(name, "totals")) {
            if (!failed(lxi_store_totals(place->store, &query, &images, &bytes, &error), &error))
                line("images %llu bytes %llu", (unsigned long long)images, (unsigned long long)bytes);
            return 1;
        }
        query.page = (uint32_t)strtoul(chars(word(words, 2)), NULL, 10);
        query.filters = &words->word[3];
        query.filters_len = words->count - 3;
        if (!failed(lxi_store_query(place->store, &query, &cursor, &error), &error))
            walk(place, cursor);
    } else if (is(name, "delete-unchanged")) {
        lxi_stored_image *image = NULL;
        lxi_stored_image_info info = {.size = sizeof info};
        if (fingerprint_of(word(words, 1), &fingerprint, &of) || failed(lxi_store_image(place->store, of, &image, &error), &error))
            return 1;
        lxi_stored_image_get(image, &info, NULL);
        failed(lxi_store_delete_unchanged(place->store, of, info.etag, &error), &error);
        lxi_stored_image_free(image);
    } else if (is(name, "delta")) {
        lxi_delta_options options = {.size = sizeof options, .flags = LXI_DELTA_LEVEL, .monitor = &place->monitor};
        lxi_delta_info info = {.size = sizeof info};
        if (!failed(lxi_delta_make(word(words, 1), word(words, 2), word(words, 3), &options, &info, &error), &error))
            show_delta(&info);
    } else if (is(name, "patch")) {
        lxi_delta_info info = {.size = sizeof info};
        if (fingerprint_of(word(words, 1), &fingerprint, &of))
            return 1;
        if (!failed(lxi_delta_apply(word(words, 2), word(words, 3), word(words, 4), of, place->limits, &place->monitor, &info, &error), &error))
            show_delta(&info);
    } else {
        return 0;
    }
    return 1;
}

int serving_step(struct place *place, const struct words *words) {
    lxi_str name = word(words, 0);
    lxi_error *error = NULL;
    if (is(name, "store-of")) {
        lxi_store_options options = {.size = sizeof options, .limits = place->limits, .clock = clock_of, .clock_user = &place->clock};
        lxi_store *opened = NULL;
        place->clock = 1750000000;
        if (!failed(lxi_store_open_described(word(words, 1), LXI_STR("."), &options, &opened, &error), &error)) {
            lxi_store_free(place->store);
            place->store = opened;
        }
    } else if (is(name, "serve")) {
        serve(place);
    } else if (is(name, "cache")) {
        cache(place);
    } else if (is(name, "stop")) {
        failed(lxi_server_stop(place->server, &error), &error);
        if (place->logged == 0)
            broken("the server logged nothing", "");
    } else if (is(name, "connect")) {
        connect_to(place, words);
    } else if (is(name, "remotes")) {
        remotes();
    } else if (is(name, "images")) {
        lxi_image_cursor *cursor = NULL;
        if (!failed(lxi_remote_images(place->remote, &words->word[1], words->count - 1, &place->monitor, &cursor, &error), &error))
            walk(place, cursor);
    } else if (is(name, "find")) {
        lxi_wanted wanted = {.size = sizeof wanted, .architectures = machine, .architectures_len = 1};
        lxi_stored_image *image = NULL;
        lxi_stored_image_info info = {.size = sizeof info};
        if (words->count > 2)
            wanted.image_type = is(word(words, 2), "container") ? LXI_TYPE_CONTAINER : LXI_TYPE_VIRTUAL_MACHINE;
        if (failed(lxi_remote_resolve(place->remote, word(words, 1), &wanted, &place->monitor, &image, &error), &error))
            return 1;
        lxi_stored_image_get(image, &info, NULL);
        fputs("= ", stdout);
        show_fingerprint(&info.fingerprint);
        line_end();
        lxi_stored_image_free(image);
    } else if (is(name, "upload")) {
        upload(place, words);
    } else if (is(name, "copy") || is(name, "fetch")) {
        bring(place, words);
    } else if (is(name, "refresh")) {
        refresh(place, words->count > 1);
    } else if (is(name, "mirror")) {
        mirror(place, words);
    } else {
        return settings_step(words) || asking_step(place, words);
    }
    return 1;
}
