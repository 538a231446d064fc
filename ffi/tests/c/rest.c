/* rest DIRECTORY: the calls that no behaviour case makes: copies, changes, streams out, descriptors, what was left out. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <lxd_image.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *doing;

/* Tells where it went wrong, and ends. */
static void check(int right, int line, const char *what) {
    if (!right) {
        fprintf(stderr, "line %d: not so: %s\n", line, what);
        exit(1);
    }
}

#define SO(what) check((what), __LINE__, #what)
#define WORKS(call) check((call) == LXI_OK, __LINE__, #call)

static int same(lxi_str text, const char *expected) {
    return text.len == strlen(expected) && memcmp(text.data, expected, text.len) == 0;
}

static lxi_str path(const char *name) {
    static char all[8][512];
    static int next;
    char *room = all[next++ % 8];
    int length = snprintf(room, sizeof all[0], "%s/%s", doing, name);
    return (lxi_str){room, (size_t)length};
}

static void put(const char *name, const char *content) {
    FILE *out = fopen(path(name).data, "w");
    SO(out != NULL && fputs(content, out) >= 0 && fclose(out) == 0);
}

/* Takes bytes until there are more than it wants, then stops the call. */
struct sink {
    lxi_hasher *hasher;
    size_t most;
};

static lxi_status take(void *user, const uint8_t *data, size_t len) {
    struct sink *sink = user;
    if (len > sink->most)
        return LXI_BUSY;
    sink->most -= len;
    return lxi_hasher_update(sink->hasher, (lxi_bytes){data, len}, NULL);
}

static int32_t stop(void *user, const lxi_progress *now) {
    (void)now;
    ++*(int *)user;
    return 1;
}

static void metadata(void) {
    lxi_metadata *one = NULL, *two = NULL;
    lxi_metadata_info info = {.size = sizeof info};
    lxi_str value, event = LXI_STR("create");
    WORKS(lxi_metadata_new(LXI_STR("x86_64"), 1, &one, NULL));
    WORKS(lxi_metadata_set_property(one, LXI_STR("os"), LXI_STR("Debian"), NULL));
    lxi_pair pair = {LXI_STR("key"), LXI_STR("value")};
    lxi_rule rule = {.size = sizeof rule, .template_name = LXI_STR("t.tpl"), .when = &event, .when_len = 1, .properties = &pair, .properties_len = 1, .flags = LXI_RULE_CREATE_ONLY | LXI_RULE_OWNER | LXI_RULE_MODE, .uid = 1000, .gid = 100, .mode = 0640};
    WORKS(lxi_metadata_set_rule(one, LXI_STR("/etc/x"), &rule, NULL));
    WORKS(lxi_metadata_copy(one, &two, NULL));
    WORKS(lxi_metadata_set_architecture(two, LXI_STR("arm64"), NULL));
    WORKS(lxi_metadata_set_creation_date(two, 7, NULL));
    WORKS(lxi_metadata_set_expiry_date(two, 9, NULL));
    WORKS(lxi_metadata_remove_property(two, LXI_STR("os"), NULL));
    SO(lxi_metadata_remove_property(two, LXI_STR("os"), NULL) == LXI_NOT_FOUND);
    WORKS(lxi_metadata_remove_rule(two, LXI_STR("/etc/x"), NULL));
    SO(lxi_metadata_remove_rule(two, LXI_STR("/etc/x"), NULL) == LXI_NOT_FOUND);
    WORKS(lxi_metadata_get(two, &info, NULL));
    SO(same(info.kernel_architecture, "aarch64") && info.creation_date == 7 && info.expiry_date == 9 && info.rules == 0);
    /* The one that was copied is as it was. */
    WORKS(lxi_metadata_get(one, &info, NULL));
    SO(same(info.architecture, "x86_64") && info.properties == 1 && info.rules == 1);
    WORKS(lxi_metadata_property(one, LXI_STR("os"), &value, NULL));
    SO(same(value, "Debian"));
    lxi_rule_info shown = {.size = sizeof shown};
    WORKS(lxi_metadata_rule_at(one, 0, &shown, NULL));
    SO(shown.create_only && same(shown.uid, "1000") && same(shown.gid, "100") && same(shown.mode, "0640"));
    WORKS(lxi_metadata_free(one));
    WORKS(lxi_metadata_free(two));
}

static void images(void) {
    lxi_metadata *about = NULL;
    lxi_written *written = NULL;
    lxi_written_info info = {.size = sizeof info};
    lxi_fingerprint fingerprint, streamed;
    WORKS(lxi_metadata_new(LXI_STR("x86_64"), 1, &about, NULL));
    SO(mkdir(path("tree").data, 0755) == 0);
    put("tree/file", "content\n");
    /* Something that tar can't hold is told. */
    lxi_pack_options packing = {.size = sizeof packing, .tree = path("tree"), .metadata = about, .flags = LXI_PACK_NEWEST_MTIME, .newest_mtime = 1};
    WORKS(lxi_pack(&packing, path("image"), &written, NULL));
    WORKS(lxi_written_get(written, &info, NULL));
    lxi_str file;
    WORKS(lxi_written_file_at(written, 0, &file, NULL));
    SO(info.files == 1 && same(file, path("image").data));
    lxi_bytes omitted;
    lxi_str why;
    SO(info.omissions == 0 && lxi_written_omission_at(written, 0, &omitted, &why, NULL) == LXI_NOT_FOUND);
    WORKS(lxi_written_free(written));
    fingerprint = info.fingerprint;

    lxi_input input = {.size = sizeof input, .kind = LXI_INPUT_PATH, .path = path("image")};
    lxi_image *image = NULL;
    WORKS(lxi_image_open(&input, NULL, NULL, &image, NULL));
    WORKS(lxi_image_fingerprint(image, NULL, &streamed, NULL));
    SO(memcmp(&fingerprint, &streamed, sizeof fingerprint) == 0);
    lxi_buffer *yaml = NULL;
    lxi_bytes bytes;
    WORKS(lxi_image_metadata_bytes(image, &yaml, NULL));
    WORKS(lxi_buffer_get(yaml, &bytes, NULL));
    SO(bytes.len > 0 && memcmp(bytes.data, "architecture:", 13) == 0);
    WORKS(lxi_buffer_free(yaml));

    /* To a callback: what arrives is what the result says. A callback that has enough ends the call. */
    struct sink sink = {.most = SIZE_MAX};
    uint64_t seen = 0;
    WORKS(lxi_hasher_new(&sink.hasher, NULL));
    lxi_convert_options converting = {.size = sizeof converting, .compression = LXI_STR("none"), .expected_fingerprint = &fingerprint};
    WORKS(lxi_image_convert_to(image, &converting, take, &sink, &written, NULL));
    WORKS(lxi_written_get(written, &info, NULL));
    WORKS(lxi_hasher_get(sink.hasher, &streamed, &seen, NULL));
    SO(seen == info.bytes && memcmp(&streamed, &info.fingerprint, sizeof streamed) == 0);
    WORKS(lxi_written_free(written));
    sink.most = 100;
    SO(lxi_image_convert_to(image, &converting, take, &sink, NULL, NULL) == LXI_BUSY);
    WORKS(lxi_hasher_free(sink.hasher));
    WORKS(lxi_hasher_new(&sink.hasher, NULL));
    sink.most = SIZE_MAX;
    WORKS(lxi_pack_to(&packing, take, &sink, NULL, NULL));
    WORKS(lxi_hasher_get(sink.hasher, &streamed, NULL, NULL));
    SO(memcmp(&fingerprint, &streamed, sizeof fingerprint) == 0);
    WORKS(lxi_hasher_free(sink.hasher));

    /* A progress callback that says no. */
    int told = 0;
    bool set = false;
    lxi_cancel *cancel = NULL;
    WORKS(lxi_cancel_new(&cancel, NULL));
    lxi_monitor monitor = {.size = sizeof monitor, .cancel = cancel, .progress = stop, .user = &told};
    SO(lxi_image_fingerprint(image, &monitor, &streamed, NULL) == LXI_CANCELLED && told == 1);
    /* A program that was compiled before the record came: its monitor ends earlier, and what lies behind it is not read. */
    monitor.size = offsetof(lxi_monitor, omissions);
    monitor.omissions = (lxi_omissions *)&monitor;
    told = 0;
    SO(lxi_image_fingerprint(image, &monitor, &streamed, NULL) == LXI_CANCELLED);
    monitor.size--;
    SO(lxi_image_fingerprint(image, &monitor, &streamed, NULL) == LXI_INVALID_INPUT);
    monitor.size = sizeof monitor;
    SO(lxi_image_fingerprint(image, &monitor, &streamed, NULL) == LXI_INVALID_INPUT);
    monitor.omissions = NULL;
    WORKS(lxi_cancel_is_set(cancel, &set, NULL));
    SO(set);
    lxi_unpack_options unpacking = {.size = sizeof unpacking, .monitor = &monitor};
    SO(lxi_image_unpack_unverified(image, path("never"), &unpacking, NULL, NULL) == LXI_CANCELLED);
    SO(access(path("never").data, F_OK) != 0);
    WORKS(lxi_cancel_free(cancel));

    /* Staged, looked at, and thrown away. */
    lxi_staged *staged = NULL;
    lxi_unpacked_info left = {.size = sizeof left};
    WORKS(lxi_image_stage(image, path("staged"), NULL, &staged, NULL));
    WORKS(lxi_staged_get(staged, &left, NULL));
    SO(left.path.len == 0 && left.entries > 0 && memcmp(&left.fingerprint, &fingerprint, sizeof fingerprint) == 0);
    WORKS(lxi_staged_discard(staged, NULL));
    SO(lxi_staged_get(staged, &left, NULL) == LXI_INVALID_INPUT);
    SO(lxi_staged_discard(staged, NULL) == LXI_INVALID_INPUT);
    WORKS(lxi_staged_free(staged));

    lxi_unpacked *unpacked = NULL;
    lxi_metadata *again = NULL;
    lxi_str what;
    WORKS(lxi_image_unpack_verified(image, path("out"), &fingerprint, NULL, &unpacked, NULL));
    WORKS(lxi_unpacked_metadata(unpacked, &again, NULL));
    WORKS(lxi_unpacked_get(unpacked, &left, NULL));
    SO(same(left.path, path("out").data));
    lxi_status omission = lxi_unpacked_omission_at(unpacked, 0, &omitted, &what, NULL);
    SO(omission == (left.complete ? LXI_NOT_FOUND : LXI_OK));
    WORKS(lxi_metadata_free(again));
    WORKS(lxi_unpacked_free(unpacked));

    lxi_limits *trusted = NULL;
    uint64_t value = 0;
    WORKS(lxi_limits_new_trusted(&trusted, NULL));
    WORKS(lxi_limits_get(trusted, LXI_STR("entries"), &value, NULL));
    SO(value == UINT64_MAX);
    WORKS(lxi_limits_free(trusted));
    WORKS(lxi_image_free(image));
    WORKS(lxi_metadata_free(about));
}

static void templates(void) {
    static const char source[] = "{% if trigger == \"create\" %}x{% endif %}{% now \"2006\" %}";
    static const char json[] = "{\"container\": {\"name\": \"c1\"}}";
    lxi_template *parsed = NULL;
    lxi_template_context *context = NULL;
    lxi_buffer *text = NULL;
    lxi_bytes bytes;
    lxi_warning warning = {.size = sizeof warning};
    WORKS(lxi_template_parse((lxi_bytes){(const uint8_t *)source, sizeof source - 1}, LXI_DIALECT_LXD, 0, NULL, &parsed, NULL));
    WORKS(lxi_template_warning_at(parsed, 0, &warning, NULL));
    SO(warning.line == 1 && warning.message.len > 0);
    SO(lxi_template_warning_at(parsed, 1, &warning, NULL) == LXI_NOT_FOUND);
    WORKS(lxi_template_context_from_json((lxi_bytes){(const uint8_t *)json, sizeof json - 1}, &context, NULL));
    WORKS(lxi_template_context_set_now(context, 86400 * 365 * 10, NULL));
    WORKS(lxi_template_render(parsed, context, NULL, &text, NULL));
    WORKS(lxi_buffer_get(text, &bytes, NULL));
    SO(bytes.len == 4 && memcmp(bytes.data, "1979", 4) == 0);
    WORKS(lxi_buffer_free(text));
    WORKS(lxi_template_free(parsed));

    /* By descriptors, and a dry run first. */
    SO(mkdir(path("root").data, 0755) == 0 && mkdir(path("templates").data, 0755) == 0);
    put("templates/t.tpl", "{{ container.name }}\n");
    int root = open(path("root").data, O_RDONLY | O_DIRECTORY), templates = open(path("templates").data, O_RDONLY | O_DIRECTORY);
    lxi_metadata *about = NULL;
    lxi_applied *applied = NULL;
    lxi_outcome outcome = {.size = sizeof outcome};
    lxi_str event = LXI_STR("create");
    lxi_rule rule = {.size = sizeof rule, .template_name = LXI_STR("t.tpl"), .when = &event, .when_len = 1};
    WORKS(lxi_metadata_new(LXI_STR("x86_64"), 1, &about, NULL));
    WORKS(lxi_metadata_set_rule(about, LXI_STR("/name"), &rule, NULL));
    lxi_apply_options options = {.size = sizeof options, .flags = LXI_APPLY_DRY_RUN};
    WORKS(lxi_apply_at(root, templates, about, event, context, &options, &applied, NULL));
    WORKS(lxi_applied_at(applied, 0, &outcome, NULL));
    SO(outcome.has_change && !outcome.has_old && outcome.new_content.len == 3 && access(path("root/name").data, F_OK) != 0);
    WORKS(lxi_applied_free(applied));
    WORKS(lxi_apply_at(root, templates, about, event, context, NULL, &applied, NULL));
    WORKS(lxi_applied_at(applied, 0, &outcome, NULL));
    SO(outcome.action == LXI_ACTION_CREATED && outcome.bytes == 3 && access(path("root/name").data, F_OK) == 0);
    WORKS(lxi_applied_free(applied));
    close(root);
    close(templates);
    WORKS(lxi_metadata_free(about));
    WORKS(lxi_template_context_free(context));
}

static void stores(void) {
    lxi_store *store = NULL;
    lxi_metadata *about = NULL;
    lxi_stored_image *image = NULL, *again = NULL;
    lxi_stored_image_info info = {.size = sizeof info};
    lxi_str value;
    WORKS(lxi_store_open(path("store"), NULL, &store, NULL));
    WORKS(lxi_metadata_new(LXI_STR("x86_64"), 1, &about, NULL));
    WORKS(lxi_metadata_set_property(about, LXI_STR("os"), LXI_STR("Debian"), NULL));
    lxi_pack_options packing = {.size = sizeof packing, .tree = path("tree"), .metadata = about};
    lxi_alias alias = {LXI_STR("web"), LXI_STR("what it is for")};
    lxi_update_source source = {.size = sizeof source, .server = LXI_STR("https://example.org"), .protocol = LXI_STR("simplestreams"), .alias = LXI_STR("debian/12"), .image_type = LXI_TYPE_CONTAINER};
    lxi_import_options importing = {.size = sizeof importing, .aliases = &alias, .aliases_len = 1, .source = &source, .flags = LXI_IMPORT_AUTO_UPDATE, .file_name = LXI_STR("box.tar.zst")};
    WORKS(lxi_store_publish(store, &packing, &importing, &image, NULL, NULL));
    WORKS(lxi_stored_image_get(image, &info, NULL));
    SO(same(info.source_server, "https://example.org") && info.auto_update && same(info.file_name, "box.tar.zst"));
    WORKS(lxi_stored_image_property(image, LXI_STR("os"), &value, NULL));
    SO(same(value, "Debian"));
    SO(lxi_stored_image_property(image, LXI_STR("none"), &value, NULL) == LXI_NOT_FOUND);
    WORKS(lxi_store_image(store, &info.fingerprint, &again, NULL));
    WORKS(lxi_stored_image_free(again));
    lxi_alias_list *aliases = NULL;
    lxi_fingerprint target;
    WORKS(lxi_store_alias(store, LXI_STR("web"), &aliases, NULL));
    WORKS(lxi_alias_list_at(aliases, 0, &alias, &target, NULL));
    SO(same(alias.description, "what it is for") && memcmp(&target, &info.fingerprint, sizeof target) == 0);
    WORKS(lxi_alias_list_free(aliases));
    WORKS(lxi_store_alias_of_type(store, LXI_STR("web"), LXI_TYPE_CONTAINER, &aliases, NULL));
    WORKS(lxi_alias_list_free(aliases));
    SO(lxi_store_alias_of_type(store, LXI_STR("web"), LXI_TYPE_VIRTUAL_MACHINE, &aliases, NULL) == LXI_NOT_FOUND);
    SO(lxi_store_alias_of_type(store, LXI_STR("web"), 3, &aliases, NULL) == LXI_INVALID_INPUT);
    WORKS(lxi_stored_image_free(image));
    WORKS(lxi_metadata_free(about));
    WORKS(lxi_store_free(store));
    lxi_check_report *report = NULL;
    lxi_check_info found = {.size = sizeof found};
    lxi_finding finding = {.size = sizeof finding};
    put("store/blobs/stray", "what no store makes");
    WORKS(lxi_store_repair(path("store"), NULL, NULL, &report, NULL));
    WORKS(lxi_check_report_get(report, &found, NULL));
    WORKS(lxi_check_report_finding_at(report, 0, &finding, NULL));
    SO(found.images == 1 && found.findings == 1 && finding.kind == LXI_FINDING_STRAY && !finding.has_fingerprint);
    WORKS(lxi_check_report_free(report));
    SO(access(path("store/blobs/stray").data, F_OK) != 0);
}

/* Calls that were cancelled before they begin, and others that no case makes. */
static void cancelled(void) {
    lxi_cancel *cancel = NULL;
    lxi_store *store = NULL;
    lxi_tree *tree = NULL;
    lxi_pruned *pruned = NULL;
    lxi_secret_key *key = NULL;
    lxi_statements *signed_ = NULL;
    lxi_fingerprint of = {{1}};
    WORKS(lxi_cancel_new(&cancel, NULL));
    WORKS(lxi_cancel_set(cancel, NULL));
    lxi_monitor monitor = {.size = sizeof monitor, .cancel = cancel};
    WORKS(lxi_store_open(path("store"), NULL, &store, NULL));
    lxi_prune_options pruning = {.size = sizeof pruning, .monitor = &monitor};
    SO(lxi_store_prune(store, &pruning, &pruned, NULL, NULL, NULL) == LXI_CANCELLED && pruned == NULL);
    lxi_tree_options making = {.size = sizeof making, .flags = LXI_TREE_CREATE};
    lxi_tree_prune_options tree_pruning = {.size = sizeof tree_pruning, .monitor = &monitor};
    WORKS(lxi_tree_open(path("static"), &making, &tree, NULL));
    SO(lxi_tree_prune(tree, &tree_pruning, NULL, NULL) == LXI_CANCELLED);
    /* A program of before these structures grew passes a shorter one. */
    pruning.size = offsetof(lxi_prune_options, monitor);
    tree_pruning.size = offsetof(lxi_tree_prune_options, monitor);
    WORKS(lxi_store_prune(store, &pruning, NULL, NULL, NULL, NULL));
    WORKS(lxi_tree_prune(tree, &tree_pruning, NULL, NULL));
    WORKS(lxi_secret_key_generate(&key, NULL));
    const lxi_secret_key *keys[] = {key, NULL};
    lxi_statement_options stating = {.size = sizeof stating, .monitor = &monitor};
    SO(lxi_store_sign(store, &of, keys, 1, &stating, &signed_, NULL) != LXI_OK && signed_ == NULL);
    SO(lxi_bundle_create(store, &of, 1, path("bundle.tar"), &monitor, NULL) == LXI_NOT_FOUND);
    /* Keys among an array are looked at one by one. */
    SO(lxi_statement_sign(&of, keys, 2, NULL, &signed_, NULL) == LXI_INVALID_INPUT && signed_ == NULL);
    stating.monitor = NULL;
    stating.predicate_type = LXI_STR("https://example.com/x");
    SO(lxi_statement_sign(&of, keys, 1, &stating, &signed_, NULL) == LXI_INVALID_INPUT);
    WORKS(lxi_secret_key_free(key));
    WORKS(lxi_tree_free(tree));
    WORKS(lxi_store_free(store));
    WORKS(lxi_cancel_free(cancel));
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    doing = argv[1];
    metadata();
    images();
    templates();
    stores();
    cancelled();
    return 0;
}
