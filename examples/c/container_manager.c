/* container_manager STORE URL PROTOCOL ALIAS DIRECTORY NAME: what a container manager does with images.
 *
 * Gets the image that ALIAS means on a server, fetched once and cached, verifies it while it is unpacked to DIRECTORY/NAME,
 * owners shifted for a user namespace where this runs as root, renders its templates as at creation and at the first start, and
 * removes cached images that nobody used for ten days. URL is one of an LXD or Incus server, or of a simplestreams server. */
#include <lxd_image.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static lxi_str text(const char *words) {
    return (lxi_str){words, strlen(words)};
}

static int failed(lxi_error *error) {
    lxi_error_info info = {.size = sizeof info};
    if (lxi_error_get(error, &info) == LXI_OK) {
        fprintf(stderr, "error: %.*s\n", (int)info.message.len, info.message.data);
        if (info.hint.len > 0)
            fprintf(stderr, "hint: %.*s\n", (int)info.hint.len, info.hint.data);
    }
    lxi_error_free(error);
    return 1;
}

/* Progress on one line of standard error. Called from any thread: one `fprintf` a report. */
static int32_t report(void *user, const lxi_progress *progress) {
    (void)user;
    if (progress->has_total && progress->total > 0)
        fprintf(stderr, "\r%3llu %%", (unsigned long long)(progress->done * 100 / progress->total));
    return 0;
}

/* Templates of an instance, at an event of its life. */
static int apply(const char *directory, const char *trigger, const char *json) {
    lxi_template_context *context = NULL;
    lxi_applied *applied = NULL;
    lxi_error *error = NULL;
    lxi_outcome outcome = {.size = sizeof outcome};
    int status = 0;
    if (lxi_template_context_from_json((lxi_bytes){(const uint8_t *)json, strlen(json)}, &context, &error) ||
        lxi_apply(text(directory), NULL, text(trigger), context, NULL, &applied, &error))
        status = failed(error);
    for (size_t i = 0; applied != NULL && lxi_applied_at(applied, i, &outcome, NULL) == LXI_OK; i++)
        if (outcome.action == LXI_ACTION_CREATED || outcome.action == LXI_ACTION_REPLACED)
            printf("%s: wrote %.*s\n", trigger, (int)outcome.path.len, outcome.path.data);
    lxi_applied_free(applied);
    lxi_template_context_free(context);
    return status;
}

static int create(lxi_store *store, lxi_remote *remote, const char *alias, const char *directory, const char *name) {
    static const lxi_id_range shifted[] = {{.inside = 0, .outside = 1000000, .count = 65536}};
    lxi_monitor monitor = {.size = sizeof monitor, .progress = report};
    lxi_copy_options fetching = {.size = sizeof fetching, .monitor = &monitor};
    lxi_unpack_options unpacking = {.size = sizeof unpacking, .monitor = &monitor};
    lxi_stored_image *image = NULL;
    lxi_image *opened = NULL;
    lxi_unpacked *unpacked = NULL;
    lxi_error *error = NULL;
    lxi_stored_image_info info = {.size = sizeof info};
    lxi_unpacked_info made = {.size = sizeof made};
    char destination[4096], json[1024];
    int status = 1;
    snprintf(destination, sizeof destination, "%s/%s", directory, name);
    snprintf(json, sizeof json, "{\"instance\": {\"name\": \"%s\"}, \"container\": {\"name\": \"%s\"}}", name, name);
    if (geteuid() == 0) {
        unpacking.id_map = shifted;
        unpacking.id_map_len = 1;
    }
    if (lxi_store_get_or_fetch(store, remote, text(alias), &fetching, &image, &error)) {
        failed(error);
        goto end;
    }
    lxi_stored_image_get(image, &info, NULL);
    /* Nothing is at the destination unless the bytes are those of the fingerprint. */
    if (lxi_store_open_image(store, &info.fingerprint, NULL, &opened, &error) ||
        lxi_image_unpack_verified(opened, text(destination), &info.fingerprint, &unpacking, &unpacked, &error)) {
        failed(error);
        goto end;
    }
    lxi_unpacked_get(unpacked, &made, NULL);
    fprintf(stderr, "\r");
    printf("%llu entries in %s\n", (unsigned long long)made.entries, destination);
    status = apply(destination, "create", json) || apply(destination, "start", json);
end:
    lxi_unpacked_free(unpacked);
    lxi_image_free(opened);
    lxi_stored_image_free(image);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: container_manager STORE URL PROTOCOL ALIAS DIRECTORY NAME\n");
        return 2;
    }
    lxi_known_remote address = {.size = sizeof address, .url = text(argv[2]), .protocol = text(argv[3])};
    lxi_store *store = NULL;
    lxi_remote *remote = NULL;
    lxi_error *error = NULL;
    size_t removed = 0;
    uint64_t bytes = 0;
    int status = 1;
    if (lxi_store_open(text(argv[1]), NULL, &store, &error) || lxi_remote_connect(&address, NULL, &remote, &error))
        failed(error);
    else
        status = create(store, remote, argv[4], argv[5], argv[6]);
    if (status == 0) {
        if (lxi_store_prune(store, NULL, NULL, &removed, &bytes, &error))
            status = failed(error);
        else
            printf("%zu images pruned, %llu bytes\n", removed, (unsigned long long)bytes);
    }
    lxi_remote_free(remote);
    lxi_store_free(store);
    return status;
}
