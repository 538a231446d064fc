/* Callbacks of the library that call Go. What they get as `user` is a runtime/cgo.Handle: a number, and never a pointer
 * for Go to see, hence these setters. */
#ifndef LXD_IMAGE_GO_CALLBACKS_H
#define LXD_IMAGE_GO_CALLBACKS_H

#include <lxd_image.h>

void lxi_go_set_stream(lxi_input *input, uintptr_t handle);
/* Releases a stream that the library never got. */
void lxi_go_release_stream(lxi_input *input);
void lxi_go_set_progress(lxi_monitor *monitor, uintptr_t handle);
void lxi_go_set_clock(lxi_store_options *options, uintptr_t handle);
void lxi_go_set_tree_clock(lxi_tree_options *options, uintptr_t handle);
void lxi_go_set_log(lxi_server_options *options, uintptr_t handle);

lxi_status lxi_go_survey(const lxi_image *image, const lxi_verify_options *options, uintptr_t handle,
                         lxi_verify_report **verification, lxi_error **error);
lxi_status lxi_go_pack_to(const lxi_pack_options *options, uintptr_t handle, lxi_written **written, lxi_error **error);
lxi_status lxi_go_convert_to(const lxi_image *image, const lxi_convert_options *options, uintptr_t handle,
                             lxi_written **written, lxi_error **error);
lxi_status lxi_go_export_to(const lxi_store *store, const lxi_fingerprint *fingerprint, uintptr_t handle,
                            const lxi_monitor *monitor, uint64_t *bytes, lxi_error **error);

#endif
