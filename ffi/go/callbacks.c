/* The library's callbacks, each of which calls its twin in callbacks.go. */
#include "callbacks.h"

#include "_cgo_export.h"

static lxi_status read_go(void *user, uint8_t *buffer, size_t capacity, size_t *got) {
    return lxiGoRead((uintptr_t)user, buffer, capacity, got);
}

static void release_go(void *user) {
    lxiGoRelease((uintptr_t)user);
}

static lxi_status write_go(void *user, const uint8_t *data, size_t len) {
    return lxiGoWrite((uintptr_t)user, (uint8_t *)data, len);
}

static lxi_status show_go(void *user, const lxi_entry *entry) {
    return lxiGoShow((uintptr_t)user, (lxi_entry *)entry);
}

static int32_t report_go(void *user, const lxi_progress *progress) {
    return lxiGoReport((uintptr_t)user, (lxi_progress *)progress);
}

static int64_t clock_go(void *user) {
    return lxiGoClock((uintptr_t)user);
}

static void log_go(void *user, lxi_str line) {
    lxiGoLog((uintptr_t)user, line);
}

void lxi_go_set_stream(lxi_input *input, uintptr_t handle) {
    input->read = read_go;
    input->release = release_go;
    input->user = (void *)handle;
}

void lxi_go_release_stream(lxi_input *input) {
    input->release(input->user);
}

void lxi_go_set_progress(lxi_monitor *monitor, uintptr_t handle) {
    monitor->progress = report_go;
    monitor->user = (void *)handle;
}

void lxi_go_set_clock(lxi_store_options *options, uintptr_t handle) {
    options->clock = clock_go;
    options->clock_user = (void *)handle;
}

void lxi_go_set_tree_clock(lxi_tree_options *options, uintptr_t handle) {
    options->clock = clock_go;
    options->clock_user = (void *)handle;
}

void lxi_go_set_log(lxi_server_options *options, uintptr_t handle) {
    options->log = log_go;
    options->log_user = (void *)handle;
}

lxi_status lxi_go_survey(const lxi_image *image, const lxi_verify_options *options, uintptr_t handle,
                         lxi_verify_report **verification, lxi_error **error) {
    return lxi_image_survey(image, options, show_go, (void *)handle, verification, error);
}

lxi_status lxi_go_pack_to(const lxi_pack_options *options, uintptr_t handle, lxi_written **written, lxi_error **error) {
    return lxi_pack_to(options, write_go, (void *)handle, written, error);
}

lxi_status lxi_go_convert_to(const lxi_image *image, const lxi_convert_options *options, uintptr_t handle,
                             lxi_written **written, lxi_error **error) {
    return lxi_image_convert_to(image, options, write_go, (void *)handle, written, error);
}

lxi_status lxi_go_export_to(const lxi_store *store, const lxi_fingerprint *fingerprint, uintptr_t handle,
                            const lxi_monitor *monitor, uint64_t *bytes, lxi_error **error) {
    return lxi_store_export_to(store, fingerprint, write_go, (void *)handle, monitor, bytes, error);
}
