/* Steps about static trees. */
#define _GNU_SOURCE
#include "cases.h"

#include <stdlib.h>
#include <string.h>

static void add(struct place *place, const struct words *words) {
    lxi_str aliases[8];
    lxi_tree_add_options options = {.size = sizeof options, .aliases = aliases, .monitor = &place->monitor};
    if (!is(word(words, 1), "-")) {
        const char *name = chars(word(words, 1)), *comma;
        do {
            comma = strchrnul(name, ',');
            aliases[options.aliases_len++] = (lxi_str){name, (size_t)(comma - name)};
            name = comma + 1;
        } while (*comma != '\0');
    }
    struct files files;
    lxi_fingerprint fingerprint;
    lxi_error *error = NULL;
    open_files(&files, words, 2);
    lxi_input *second = files.count > 1 ? &files.input[1] : NULL;
    if (!failed(lxi_tree_add(place->tree, &files.input[0], second, &options, &fingerprint, &error), &error)) {
        fputs("= ", stdout);
        show_fingerprint(&fingerprint);
        line_end();
    }
    close_files(&files);
}

static void list(struct place *place) {
    lxi_tree_listing *listing = NULL;
    lxi_error *error = NULL;
    lxi_tree_image image = {.size = sizeof image};
    if (failed(lxi_tree_list(place->tree, &listing, &error), &error))
        return;
    for (size_t at = 0; lxi_tree_listing_at(listing, at, &image, NULL) == LXI_OK; at++) {
        lxi_str key, value;
        fputs("= image ", stdout);
        show_fingerprint(&image.fingerprint);
        printf(" %s %.*s bytes %llu created %lld\n", image.image_type == LXI_TYPE_CONTAINER ? "container" : "virtual-machine",
               (int)image.architecture.len, image.architecture.data, (unsigned long long)image.bytes, (long long)image.created_at);
        fputs("= product", stdout);
        quote_str(image.product);
        quote_str(image.version);
        line_end();
        for (size_t i = 0; i < image.aliases; i++) {
            lxi_tree_listing_alias_at(listing, at, i, &key, NULL);
            fputs("= alias", stdout);
            quote_str(key);
            line_end();
        }
        for (size_t i = 0; i < image.properties; i++) {
            lxi_tree_listing_property_at(listing, at, i, &key, &value, NULL);
            fputs("= property", stdout);
            quote_str(key);
            quote_str(value);
            line_end();
        }
    }
    lxi_tree_listing_free(listing);
}

static void verify(struct place *place) {
    lxi_tree_report *report = NULL;
    lxi_error *error = NULL;
    lxi_tree_report_info info = {.size = sizeof info};
    if (failed(lxi_tree_verify(place->tree, &place->monitor, &report, &error), &error))
        return;
    lxi_tree_report_get(report, &info, NULL);
    line("images %llu files %llu bytes %llu", (unsigned long long)info.images, (unsigned long long)info.files, (unsigned long long)info.bytes);
    for (size_t i = 0; i < info.findings; i++) {
        lxi_error_info finding = {.size = sizeof finding};
        lxi_tree_report_finding_at(report, i, &finding, NULL);
        fputs("= finding ", stdout);
        show_kind(&finding);
        line_end();
    }
    lxi_tree_report_free(report);
}

int tree_step(struct place *place, const struct words *words) {
    lxi_str name = word(words, 0);
    lxi_error *error = NULL;
    if (is(name, "tree")) {
        lxi_tree_options options = {.size = sizeof options, .flags = LXI_TREE_CREATE, .limits = place->limits, .clock = clock_of, .clock_user = &place->clock};
        lxi_tree_free(place->tree);
        place->tree = NULL;
        place->clock = 1750000000;
        failed(lxi_tree_open(word(words, 1), &options, &place->tree, &error), &error);
    } else if (is(name, "tree-add")) {
        add(place, words);
    } else if (is(name, "tree-list")) {
        list(place);
    } else if (is(name, "tree-remove")) {
        lxi_fingerprint fingerprint;
        const lxi_fingerprint *of;
        if (!fingerprint_of(word(words, 1), &fingerprint, &of))
            failed(lxi_tree_remove(place->tree, of, 1, &error), &error);
    } else if (is(name, "tree-prune")) {
        lxi_tree_prune_options options = {.size = sizeof options, .flags = LXI_TREE_PRUNE_AFTER};
        lxi_tree_pruned done = {.size = sizeof done};
        options.keep = (uint32_t)strtoul(chars(word(words, 1)), NULL, 10);
        options.after_seconds = strtoull(chars(word(words, 2)), NULL, 10);
        if (!failed(lxi_tree_prune(place->tree, &options, &done, &error), &error))
            line("versions %llu files %llu bytes %llu waiting %llu", (unsigned long long)done.versions, (unsigned long long)done.files,
                 (unsigned long long)done.bytes, (unsigned long long)done.waiting);
    } else if (is(name, "tree-verify")) {
        verify(place);
    } else {
        return 0;
    }
    return 1;
}
