/* lxd_image.h: read, verify, unpack, pack, store and template LXD and Incus images.
 *
 * Made by cbindgen from the sources in `ffi/src`: change those. The comments here are the manual.
 *
 * Rules for every call
 *
 *   - A call returns LXI_OK, or why it failed; its results come last. If a call fails, its results are NULL, zero or
 *     empty unless its comment says otherwise, and a structure to fill is unchanged. Calls that can't
 *     fail are the exception: they return their result.
 *   - The last argument, `lxi_error **error`, may be NULL. Else it is set to NULL, or after a failure to an error that says
 *     what failed, where, and what to do; free it with `lxi_error_free`. There is no error state per thread.
 *   - Text is a pointer and a length: `lxi_str`, in UTF-8; a path of the host is any bytes but NUL. LXI_STR("text") makes
 *     one of a literal. Arguments are borrowed for the call. Results point into a handle, and live until that
 *     handle is changed or freed.
 *   - File descriptors are borrowed for the call, and duplicated where they are needed longer.
 *   - A handle is an opaque pointer, made by one call and freed by its own `_free`, which takes NULL too. Other handles that
 *     were made of it, or that it was made of, don't depend on it.
 *   - A call that takes a handle as a const pointer may run in several threads with the same handle at the same time. One
 *     that takes it as non-const needs it for itself. Handles are bound to no thread.
 *   - Structures of options and of information begin with their size in bytes, which the caller sets: `sizeof` of the
 *     structure. Set the rest of options to zero, and name what you want. A structure that grew in a later version works
 *     with older programs, and a program that was built with a later one gets LXI_INVALID_INPUT if it asks for what this
 *     library does not know.
 *   - Callbacks get the `void *user` that was passed with them, and must return normally: no longjmp, no exception.
 *   - NULL, misaligned pointers, wrong sizes, unknown flags, text that is not UTF-8 or longer than 1 MiB, paths over 4095
 *     bytes, arrays of more than 65536 items and handles of another kind are refused with LXI_INVALID_INPUT; freed and
 *     foreign handles too in debug builds, and in release builds as far as the memory shows it.
 *   - Nothing unwinds into the caller: a panic inside is LXI_PANIC, with its text in the error.
 *
 * Images come from untrusted sources. `lxi_limits` holds every bound; SECURITY.md of the project says what it guarantees.
 */


#ifndef LXD_IMAGE_H
#define LXD_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A text literal as an argument. */
#ifdef __cplusplus
#define LXI_STR(literal) (lxi_str{(literal), sizeof(literal) - 1})
#else
#define LXI_STR(literal) ((lxi_str){(literal), sizeof(literal) - 1})
#endif


// The version of this interface: it grows by one when programs have to be compiled anew. Compare it with what
// `lxi_abi_version` returns to find a library that does not fit its header.
#define LXI_ABI_VERSION 1

// The error is not one of a template.
#define LXI_STAGE_NONE 0

// The template is not well formed.
#define LXI_STAGE_PARSE 1

// The template is well formed, but could not be rendered with what it was given.
#define LXI_STAGE_EXEC 2

// The digits of a fingerprint, and the NUL behind them.
#define LXI_FINGERPRINT_TEXT 65

// A file that exists already is left alone.
#define LXI_RULE_CREATE_ONLY 1

// `uid` and `gid` are said.
#define LXI_RULE_OWNER 2

// `mode` is said.
#define LXI_RULE_MODE 4

// `lxi_image_survey` shows a digest of each regular file's content: equal for two files exactly when their contents
// are. It is not the content's sha256.
#define LXI_VERIFY_CONTENTS 1

// Writes the root file system itself to the destination, without metadata and templates.
#define LXI_UNPACK_ROOTFS_ONLY 1

// Makes no device nodes, even where they could be made.
#define LXI_UNPACK_SKIP_DEVICES 2

// Sets `trusted.*` and every `security.*` attribute too, not only file capabilities.
#define LXI_UNPACK_ALL_XATTRS 4

// Waits until everything is on the disk before it becomes visible.
#define LXI_UNPACK_DURABLE 8

// Takes `trusted.*` and every `security.*` attribute too, not only file capabilities.
#define LXI_PACK_ALL_XATTRS 1

// `newest_mtime` is set.
#define LXI_PACK_NEWEST_MTIME 2

// Parses as pongo2 itself does, with autoescape on, and not as LXD and Incus parse the templates of an image.
#define LXI_TEMPLATE_RAW 1

// The rules behind one that failed are applied all the same.
#define LXI_APPLY_KEEP_GOING 1

// Only tells what would change, and writes nothing.
#define LXI_APPLY_DRY_RUN 2

// A store that is not there is an error.
#define LXI_STORE_NO_CREATE 1

// Changes nothing, not even leftovers. Works on a file system that can only be read.
#define LXI_STORE_READ_ONLY 2

// `busy_milliseconds` is set.
#define LXI_STORE_BUSY_TIMEOUT 4

// Aliases that are taken move to the new image, instead of being an error.
#define LXI_IMPORT_REUSE_ALIASES 1

// Clients that have not authenticated may read it.
#define LXI_IMPORT_PUBLIC 2

// It follows its source, which must be given.
#define LXI_IMPORT_AUTO_UPDATE 4

// It comes as a side effect of being used, and goes when it is no longer used.
#define LXI_IMPORT_CACHED 8

// An image that is there already gets the aliases, instead of being an error.
#define LXI_IMPORT_ADD_ALIASES 16

// Clients that have not authenticated may read it.
#define LXI_EDIT_PUBLIC 1

// They may not.
#define LXI_EDIT_PRIVATE 2

// It follows its source.
#define LXI_EDIT_AUTO_UPDATE 4

// It does not.
#define LXI_EDIT_NO_AUTO_UPDATE 8

// `expires_at` is said.
#define LXI_EDIT_EXPIRES_AT 16

// The properties replace all that are there.
#define LXI_EDIT_REPLACE_PROPERTIES 32

// `revision` is said.
#define LXI_EDIT_REVISION 64

// Removes nothing, and tells what would be removed.
#define LXI_PRUNE_DRY_RUN 1

// `unused_for_seconds` is said.
#define LXI_PRUNE_UNUSED_FOR 2

// Puts right what is found, but for a damaged catalog: that is `lxi_store_repair`'s.
#define LXI_CHECK_REPAIR 1

// Aliases of a store and what they point to. Read-only, so it may be shared between threads.
typedef struct lxi_alias_list lxi_alias_list;

// What became of all rules. Read-only, so it may be shared between threads.
typedef struct lxi_applied lxi_applied;

// Bytes that a call returned: a rendered template, a YAML text, a path. Read-only, so it may be shared between
// threads.
typedef struct lxi_buffer lxi_buffer;

// A switch that stops the long calls it was given to. It is made to be shared: one thread waits in a call, another
// one sets it.
typedef struct lxi_cancel lxi_cancel;

// What a check found. Read-only, so it may be shared between threads.
typedef struct lxi_check_report lxi_check_report;

// What differs between two images. Read-only, so it may be shared between threads.
typedef struct lxi_differences lxi_differences;

// Why a call failed. Made by the call that failed, owned by its caller, and not bound to a thread: free it with
// `lxi_error_free`.
typedef struct lxi_error lxi_error;

// The files that an export made. Read-only, so it may be shared between threads.
typedef struct lxi_exported lxi_exported;

// Computes a fingerprint incrementally. Feed it the bytes of an image in order: of a split one, the metadata file's
// and then the rootfs file's.
typedef struct lxi_hasher lxi_hasher;

// An image: one file or two that were recognised. Every call takes it as const, so that threads may share it; only of
// one that came as a stream the content passes once, to whoever reads it first.
typedef struct lxi_image lxi_image;

// Images of a store. Read-only, so it may be shared between threads.
typedef struct lxi_image_list lxi_image_list;

// What input may ask for: every bound on an image from a stranger. Calls that take one copy it; NULL stands for the
// defaults, which suit images from anywhere.
typedef struct lxi_limits lxi_limits;

// The description of an image: its `metadata.yaml` as values. Keys that this library does not know, and the order of
// keys, survive reading and writing.
typedef struct lxi_metadata lxi_metadata;

// A record of what calls leave out, change, default or cannot honour. Name it in the `lxi_monitor` of one call or of
// many, also of several threads at the same time; also a call that fails records what it left out until then.
typedef struct lxi_omissions lxi_omissions;

// What a pruning removed, or would remove. Read-only, so it may be shared between threads.
typedef struct lxi_pruned lxi_pruned;

// An unpacked image in a private directory beside its destination. Freeing it before it is committed removes
// everything.
typedef struct lxi_staged lxi_staged;

// A store of images. Any number of processes may use one store, and any number of threads one handle: every call but
// `lxi_store_free` takes it as const.
typedef struct lxi_store lxi_store;

// An image of a store, as it was when it was looked up. Read-only, so it may be shared between threads.
typedef struct lxi_stored_image lxi_stored_image;

// A parsed template. Read-only, so it may be shared between threads.
typedef struct lxi_template lxi_template;

// The variables that a template is rendered with. Rendering takes it as const, so that threads may share it.
typedef struct lxi_template_context lxi_template_context;

// The result of unpacking. Read-only, so it may be shared between threads; what is on the disk does not depend on it.
typedef struct lxi_unpacked lxi_unpacked;

// What reading a whole image showed. Read-only, so it may be shared between threads.
typedef struct lxi_verify_report lxi_verify_report;

// An image that was written. Read-only, so it may be shared between threads.
typedef struct lxi_written lxi_written;

// The outcome of a call: LXI_OK, or why it failed. The values never change their meaning; later versions may add some.
typedef int32_t lxi_status;

// Text: UTF-8 where it names something in an image or a store, any bytes without NUL where it is a path of the host.
// Not terminated by NUL. As an argument it is borrowed for the call. As a result it points into the handle that gave
// it, until that handle is changed or freed. NULL with length 0 is the empty text.
typedef struct lxi_str {
    // The first byte.
    const char *data;
    // How many bytes.
    size_t len;
} lxi_str;

// What an error says; filled by `lxi_error_get`. Set `size` to `sizeof(lxi_error_info)` before. The texts live as long
// as the handle that they were asked of, and are empty where nothing is known.
typedef struct lxi_error_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // What the call returned.
    lxi_status status;
    // Where in a template it failed: LXI_STAGE_….
    uint32_t template_stage;
    // All of it in one line, for people: file, entry, what is wrong, offset, cause. Safe to print: what a terminal
    // could act on is escaped.
    struct lxi_str message;
    // What is wrong, without file, entry, offset and cause. Not escaped.
    struct lxi_str sentence;
    // What a person can do about it.
    struct lxi_str hint;
    // The file that it happened in: bytes of its path.
    struct lxi_str file;
    // The member of an archive or tree that it happened in: bytes of its name.
    struct lxi_str entry;
    // For LXI_MISMATCH: the value that was expected.
    struct lxi_str expected;
    // For LXI_MISMATCH: the value that was found.
    struct lxi_str found;
    // For LXI_LIMIT_EXCEEDED: the name of the limit.
    struct lxi_str limit;
    // The position in the decoded stream in bytes, if `has_offset`.
    uint64_t offset;
    // The line in a template, from 1; 0 where it is not known.
    uint32_t line;
    // The column in that line in bytes, from 1; 0 where it is not known.
    uint32_t column;
    // Whether `offset` is known.
    bool has_offset;
} lxi_error_info;

// Bytes. Borrowed and owned as `lxi_str` is.
typedef struct lxi_bytes {
    // The first byte.
    const uint8_t *data;
    // How many bytes.
    size_t len;
} lxi_bytes;

// How much was left out; filled by `lxi_omissions_get`. Set `size` to `sizeof(lxi_omissions_info)` before.
typedef struct lxi_omissions_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // How many things were left out in all; 0 if nothing was.
    uint64_t total;
    // How many of them `lxi_omissions_at` tells of: the first 1,000.
    size_t listed;
    // How many kinds of them `lxi_omissions_kind_at` counts.
    size_t kinds;
} lxi_omissions_info;

// The kind of an omission: LXI_OMISSION_….
typedef uint32_t lxi_omission_kind;

// One thing that was left out; filled by `lxi_omissions_at`. Set `size` to `sizeof(lxi_omission)` before.
typedef struct lxi_omission {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The object: for a member of an image its path below the root file system (LXI_OMISSION_STRAY: below the
    // archive's top), for an image its fingerprint or name, for an entry of a list its name there. Any bytes, not
    // escaped; empty for the call itself.
    struct lxi_bytes path;
    // What was left out of it.
    lxi_omission_kind kind;
    // The same and why in words, without the path. Safe to print on a terminal.
    struct lxi_str text;
} lxi_omission;

// The name of an image: the sha256 of its bytes as stored; of a split image, of the metadata file's bytes followed by
// the rootfs file's.
typedef struct lxi_fingerprint {
    // The digest.
    uint8_t bytes[32];
} lxi_fingerprint;

// Gives the next bytes: writes up to `capacity` (never 0) of them to `buffer`, how many to `got`, and returns LXI_OK.
// 0 bytes are the end. Any other status ends the call with it: LXI_IO, LXI_CANCELLED, whatever fits. Called from one
// thread at a time, which need not be the caller's. Must not unwind or jump out.
typedef lxi_status (*lxi_read_fn)(void *user, uint8_t *buffer, size_t capacity, size_t *got);

// Where the bytes of an `lxi_input` come from: LXI_INPUT_….
typedef uint32_t lxi_input_kind;

// Says that `user` is no longer needed. Called once, from any thread. Must not unwind or jump out.
typedef void (*lxi_release_fn)(void *user);

// One file of an image. Set `size` to `sizeof(lxi_input)`, `kind`, and what belongs to that kind; the rest to zero.
typedef struct lxi_input {
    // The size of this structure in bytes.
    size_t size;
    // LXI_INPUT_….
    lxi_input_kind kind;
    // For LXI_INPUT_FD.
    int32_t fd;
    // For LXI_INPUT_BYTES.
    struct lxi_bytes bytes;
    // For LXI_INPUT_PATH.
    struct lxi_str path;
    // For LXI_INPUT_STREAM. Used until `release` is called.
    lxi_read_fn read;
    // Handed to `read` and `release`.
    void *user;
    // For LXI_INPUT_STREAM, or NULL: called once when the stream is no longer needed, which is when what was opened
    // from it is freed, or before the call returns where nothing was opened. It is called in any case, unless this
    // structure itself was refused (NULL, misaligned, wrong size, unknown kind, no `read`).
    lxi_release_fn release;
    // The name to show in errors, and that a store remembers; bytes of a path. May be empty.
    struct lxi_str name;
} lxi_input;

// The phase of a long call: LXI_PHASE_….
typedef uint32_t lxi_phase;

// One report of a long call. Lives as long as the callback runs.
typedef struct lxi_progress {
    // The size of this structure in bytes, set by the library.
    size_t size;
    // The phase of the call.
    lxi_phase phase;
    // Whether `total` is known.
    bool has_total;
    // Bytes of the input consumed so far.
    uint64_t done;
    // Bytes of the input in all, if `has_total`.
    uint64_t total;
} lxi_progress;

// Takes reports: at least once for each MiB of input, from any thread, also from several at the same time. 0 goes on;
// any other value stops the call, which then fails with LXI_CANCELLED. Must not unwind or jump out.
typedef int32_t (*lxi_progress_fn)(void *user, const struct lxi_progress *progress);

// Who watches a long call. Set `size` to `sizeof(lxi_monitor)`; the rest may be zero. The switch, the
// record and what `user` points to must live until the call returns; afterwards none of them is used.
typedef struct lxi_monitor {
    // The size of this structure in bytes.
    size_t size;
    // The switch that stops the call, or NULL.
    const struct lxi_cancel *cancel;
    // Takes reports, or NULL.
    lxi_progress_fn progress;
    // Handed to `progress`.
    void *user;
    // Records what the call leaves out, or NULL.
    const struct lxi_omissions *omissions;
} lxi_monitor;

// What a metadata says; filled by `lxi_metadata_get`. Set `size` to `sizeof(lxi_metadata_info)` before.
typedef struct lxi_metadata_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The architecture as the file has it, never empty. It may be an alias (`amd64`) or an unknown name.
    struct lxi_str architecture;
    // The kernel's name for it (`x86_64`); empty if it is not known.
    struct lxi_str kernel_architecture;
    // Debian's name for it (`amd64`); empty if it is not known.
    struct lxi_str debian_architecture;
    // When the image was made, in seconds since 1970; never 0.
    int64_t creation_date;
    // When the image may be removed, in seconds since 1970; 0 for never.
    int64_t expiry_date;
    // How many properties there are.
    size_t properties;
    // How many template rules there are.
    size_t rules;
} lxi_metadata_info;

// One template rule; filled by `lxi_metadata_rule_at`. Set `size` to `sizeof(lxi_rule_info)` before. Names and paths
// are as they stand in the file, and may try to climb: applying checks them.
typedef struct lxi_rule_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The path in the instance.
    struct lxi_str path;
    // The name of the template.
    struct lxi_str template_name;
    // The owner's number inside the instance, as text; empty if it is not said. Incus only, as the next two.
    struct lxi_str uid;
    // The group's.
    struct lxi_str gid;
    // The permission bits, as text.
    struct lxi_str mode;
    // How many events the rule names.
    size_t when;
    // How many properties the rule has.
    size_t properties;
    // Whether a file that exists already is left alone.
    bool create_only;
} lxi_rule_info;

// A name with its value.
typedef struct lxi_pair {
    // The name.
    struct lxi_str key;
    // The value.
    struct lxi_str value;
} lxi_pair;

// A template rule to set. Set `size` to `sizeof(lxi_rule)`; what is not wanted may be zero.
typedef struct lxi_rule {
    // The size of this structure in bytes.
    size_t size;
    // The name of the template, a file below the image's `templates/`.
    struct lxi_str template_name;
    // The events: `create`, `copy`, `rename` and `start` are the ones that exist.
    const struct lxi_str *when;
    // How many events.
    size_t when_len;
    // What the template is given as `properties`.
    const struct lxi_pair *properties;
    // How many properties.
    size_t properties_len;
    // LXI_RULE_….
    uint32_t flags;
    // The owner of a new file, with LXI_RULE_OWNER.
    uint32_t uid;
    // The group of a new file, with LXI_RULE_OWNER.
    uint32_t gid;
    // The permission bits of a new file, with LXI_RULE_MODE.
    uint32_t mode;
} lxi_rule;

// Whether an image is one file or two: LXI_FORM_….
typedef uint32_t lxi_form;

// What is known of an image without reading it; filled by `lxi_image_get`. Set `size` to `sizeof(lxi_image_info)`
// before.
typedef struct lxi_image_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // LXI_FORM_UNIFIED or LXI_FORM_SPLIT.
    lxi_form form;
    // Whether `bytes` is known: not of a stream.
    bool has_bytes;
    // The size of all files in bytes.
    uint64_t bytes;
    // What the unified image or the metadata file is: `tar` or `squashfs`.
    struct lxi_str container;
    // How it is compressed as a whole: `none`, `gzip`, `bzip2`, `xz`, `lzma`, `zstd`, `lz4`; empty for a `squashfs`.
    struct lxi_str codec;
    // What the rootfs file of a split image is: `tar`, `squashfs` or `qcow2`; else empty.
    struct lxi_str rootfs_container;
    // How that is compressed as a whole; else empty.
    struct lxi_str rootfs_codec;
} lxi_image_info;

// How an image is verified. NULL, or all but `size` zero: on all cores, without a monitor.
typedef struct lxi_verify_options {
    // The size of this structure in bytes.
    size_t size;
    // How many threads decode, at most; 0 for all cores.
    uint32_t threads;
    // LXI_VERIFY_….
    uint32_t flags;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_verify_options;

// What an entry is: LXI_ENTRY_….
typedef uint32_t lxi_entry_kind;

// An extended attribute.
typedef struct lxi_xattr {
    // Its full name, such as `security.capability`.
    struct lxi_bytes name;
    // Its value.
    struct lxi_bytes value;
} lxi_xattr;

// One member of the root file system. Lives, with all that it points to, as long as the callback runs.
typedef struct lxi_entry {
    // The size of this structure in bytes, set by the library.
    size_t size;
    // Path below the root: components joined by `/`, no slash at either end; empty for the root itself. Bytes.
    struct lxi_bytes path;
    // Where a symbolic link points, as it stands there, or the path of the entry that a hard link names.
    struct lxi_bytes target;
    // What it is.
    lxi_entry_kind kind;
    // Permission bits with setuid, setgid and sticky.
    uint32_t mode;
    // Owner.
    uint32_t uid;
    // Group.
    uint32_t gid;
    // Of a file: its logical size in bytes.
    uint64_t bytes;
    // Time of the last change of content: seconds since 1970, rounded down.
    int64_t mtime;
    // And nanoseconds after that second.
    uint32_t mtime_nanoseconds;
    // Of a device: the driver.
    uint32_t major;
    // Of a device: the device of that driver.
    uint32_t minor;
    // Whether `content` is set.
    bool has_content;
    // A digest of a file's content, with LXI_VERIFY_CONTENTS.
    struct lxi_fingerprint content;
    // Extended attributes.
    const struct lxi_xattr *xattrs;
    // How many.
    size_t xattrs_len;
} lxi_entry;

// Takes an entry. LXI_OK goes on; any other status ends the call with it. Called on the caller's thread. Must not
// unwind or jump out.
typedef lxi_status (*lxi_entry_fn)(void *user, const struct lxi_entry *entry);

// Whether an image is for a container or for a virtual machine: LXI_TYPE_….
typedef uint32_t lxi_image_type;

// What reading a whole image showed; filled by `lxi_verify_report_get`. Set `size` to `sizeof(lxi_verify_info)`
// before.
typedef struct lxi_verify_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The fingerprint of the bytes as stored. Compare it with the one that is expected.
    struct lxi_fingerprint fingerprint;
    // Container or virtual machine.
    lxi_image_type image_type;
    // Whether the metadata can be read: `lxi_verify_report_metadata`. What is wrong with it is among the findings.
    bool has_metadata;
    // Whether it has a disk, and the next two say something.
    bool has_disk;
    // The size that a machine sees, in bytes.
    uint64_t disk_virtual_size;
    // Internal snapshots of the disk.
    uint32_t disk_snapshots;
    // The size of all files of the image in bytes.
    uint64_t bytes;
    // Regular files in the root file system.
    uint64_t files;
    // Directories that are members.
    uint64_t directories;
    // Symbolic links.
    uint64_t symlinks;
    // Further names of files.
    uint64_t hard_links;
    // Character and block devices.
    uint64_t devices;
    // Named pipes and sockets.
    uint64_t others;
    // Logical bytes of all regular files.
    uint64_t content_bytes;
    // How many names there are in `templates/`: `lxi_verify_report_template_at`.
    size_t templates;
    // How many members stand at the archive's top that no image has: `lxi_verify_report_stray_at`.
    size_t strays;
    // How many rules the image breaks: `lxi_verify_report_finding_at`. A sound image has none.
    size_t findings;
} lxi_verify_info;

// A run of owners: `count` numbers from `inside` (the image) become those from `outside` (the host).
typedef struct lxi_id_range {
    // First number in the image.
    uint32_t inside;
    // First number on the host.
    uint32_t outside;
    // How many.
    uint32_t count;
} lxi_id_range;

// How an image is unpacked. NULL, or all but `size` zero: everything as the image says, on all cores.
typedef struct lxi_unpack_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_UNPACK_….
    uint32_t flags;
    // How many threads decode and write, at most; 0 for all cores.
    uint32_t threads;
    // How owners and groups are shifted; none: not at all.
    const struct lxi_id_range *id_map;
    // How many ranges.
    size_t id_map_len;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_unpack_options;

// The result of unpacking; filled by `lxi_unpacked_get` and `lxi_staged_get`. Set `size` to
// `sizeof(lxi_unpacked_info)` before.
typedef struct lxi_unpacked_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // Where it is; empty while it is staged.
    struct lxi_str path;
    // The fingerprint of the bytes that were unpacked.
    struct lxi_fingerprint fingerprint;
    // Container or virtual machine.
    lxi_image_type image_type;
    // Whether everything in the image was written as it stands there.
    bool complete;
    // Entries written.
    uint64_t entries;
    // Bytes of file content written.
    uint64_t bytes;
    // How many omissions `lxi_unpacked_omission_at` tells of: the first 1,000.
    size_t omissions;
    // How many kinds of omissions `lxi_unpacked_omission_kind_at` counts.
    size_t omission_kinds;
} lxi_unpacked_info;

// What the rootfs of a split container image is written as: LXI_ROOTFS_….
typedef uint32_t lxi_rootfs_format;

// What is packed and how. Set `size` to `sizeof(lxi_pack_options)`, a root file system (`tree` or `disk`) and the
// metadata (`metadata` or `metadata_yaml`); the rest may be zero.
typedef struct lxi_pack_options {
    // The size of this structure in bytes.
    size_t size;
    // The directory whose content becomes the root file system; or empty.
    struct lxi_str tree;
    // The qcow2 disk of a virtual machine; or NULL.
    const struct lxi_input *disk;
    // The metadata; or NULL.
    const struct lxi_metadata *metadata;
    // The bytes of a `metadata.yaml`, which go into the image as they are; or empty.
    struct lxi_bytes metadata_yaml;
    // The directory whose files become `templates/`; or empty.
    struct lxi_str templates;
    // A codec with or without a level, such as `zstd:19`, `xz` or `none`; empty for zstd.
    struct lxi_str compression;
    // One file, which is usual, or two.
    lxi_form form;
    // What the rootfs of a split image is.
    lxi_rootfs_format rootfs_format;
    // LXI_PACK_….
    uint32_t flags;
    // How many threads compress, at most; 0 for all cores. The bytes don't depend on it.
    uint32_t threads;
    // With LXI_PACK_NEWEST_MTIME: seconds since 1970; modification times after this one become it.
    int64_t newest_mtime;
    // The limits that metadata, templates and disks are held to, or NULL.
    const struct lxi_limits *limits;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_pack_options;

// Takes the next bytes, all of them, and returns LXI_OK. Any other status ends the call with it. Called from one
// thread at a time, which need not be the caller's. Must not unwind or jump out.
typedef lxi_status (*lxi_write_fn)(void *user, const uint8_t *data, size_t len);

// How an image is converted. NULL, or all but `size` zero: to what it is.
typedef struct lxi_convert_options {
    // The size of this structure in bytes.
    size_t size;
    // One file, or two; 0: as it is.
    lxi_form form;
    // What the rootfs of a split container image becomes; 0: as it is.
    lxi_rootfs_format rootfs_format;
    // A codec with or without a level, such as `zstd:19`; empty: as it is.
    struct lxi_str compression;
    // The fingerprint that the source must have, or NULL.
    const struct lxi_fingerprint *expected_fingerprint;
    // How many threads work, at most; 0 for all cores. The bytes don't depend on it.
    uint32_t threads;
    // Must be 0.
    uint32_t flags;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_convert_options;

// An image that was written; filled by `lxi_written_get`. Set `size` to `sizeof(lxi_written_info)` before.
typedef struct lxi_written_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The fingerprint of the new image.
    struct lxi_fingerprint fingerprint;
    // The size of all its files in bytes.
    uint64_t bytes;
    // How many files there are: `lxi_written_file_at`. None when it went to a callback.
    size_t files;
    // How many members were left out: `lxi_written_omission_at`.
    size_t omissions;
} lxi_written_info;

// How a member differs: LXI_DIFFERENCE_….
typedef uint32_t lxi_difference_kind;

// One difference; filled by `lxi_differences_at`. Set `size` to `sizeof(lxi_difference_info)` before.
typedef struct lxi_difference_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The member: `metadata.yaml`, or a path that begins with `templates/` or `rootfs`. Bytes.
    struct lxi_bytes path;
    // How it differs.
    lxi_difference_kind kind;
    // How many attributes of it differ: `lxi_differences_attribute_at`.
    size_t attributes;
} lxi_difference_info;

// Whose templates: LXI_DIALECT_….
typedef uint32_t lxi_dialect;

// Something in a template that is allowed, yet surely not meant; filled by `lxi_template_warning_at`. Set `size` to
// `sizeof(lxi_warning)` before.
typedef struct lxi_warning {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // One sentence.
    struct lxi_str message;
    // The line, from 1.
    uint32_t line;
    // The column in bytes, from 1.
    uint32_t column;
} lxi_warning;

// How templates are applied. NULL, or all but `size` zero: as LXD does, owners as they are, and the first failure
// stops.
typedef struct lxi_apply_options {
    // The size of this structure in bytes.
    size_t size;
    // Whose templates these are. Only Incus knows a rule's owner and mode.
    lxi_dialect dialect;
    // LXI_APPLY_….
    uint32_t flags;
    // How the owners of new files are shifted; none: not at all.
    const struct lxi_id_range *id_map;
    // How many ranges.
    size_t id_map_len;
    // For a virtual machine: the directory that gets `<template>.out` files and a copy of `metadata.yaml`, for the
    // agent inside to put in place; or empty.
    struct lxi_str output;
    // What templates may ask for, or NULL.
    const struct lxi_limits *limits;
    // Progress, cancellation and omissions of the call, or NULL. Listens for cancellation between one rule and the
    // next; there are no reports.
    const struct lxi_monitor *monitor;
} lxi_apply_options;

// What was done with a rule: LXI_ACTION_….
typedef uint32_t lxi_action;

// What became of one rule; filled by `lxi_applied_at`. Set `size` to `sizeof(lxi_outcome)` before.
typedef struct lxi_outcome {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The rule's path, as the metadata has it.
    struct lxi_str path;
    // The rule's template.
    struct lxi_str template_name;
    // Why, in words.
    struct lxi_str reason;
    // What was done, or would be by a dry run.
    lxi_action action;
    // For LXI_ACTION_FAILED: the status of the failure; else LXI_OK.
    lxi_status status;
    // The file's owner afterwards: with the host's numbers, as the next two, unless the rule was skipped or failed.
    uint32_t uid;
    // Its group.
    uint32_t gid;
    // Its permissions.
    uint32_t mode;
    // Whether `old_content` and `new_content` say something: after a dry run.
    bool has_change;
    // Whether there was a file.
    bool has_old;
    // Its size in bytes.
    uint64_t bytes;
    // What the file holds now.
    struct lxi_bytes old_content;
    // What the template gives.
    struct lxi_bytes new_content;
} lxi_outcome;

// Returns the time in seconds since 1970. Called from any thread, also from several at the same time. Must not unwind
// or jump out.
typedef int64_t (*lxi_clock_fn)(void *user);

// How a store is opened. NULL, or all but `size` zero: makes the store if it is not there, and waits five seconds for
// other writers.
typedef struct lxi_store_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_STORE_….
    uint32_t flags;
    // How many threads decode an image that is verified, at most; 0 for all cores.
    uint32_t threads;
    // With LXI_STORE_BUSY_TIMEOUT: how long to wait for other writers before failing with LXI_BUSY.
    uint64_t busy_milliseconds;
    // The limits for images that come in, or NULL.
    const struct lxi_limits *limits;
    // Where the time comes from; NULL for the machine's clock. Used until the store is freed.
    lxi_clock_fn clock;
    // Handed to `clock`.
    void *clock_user;
} lxi_store_options;

// What a store knows of an image; filled by `lxi_stored_image_get`. Set `size` to `sizeof(lxi_stored_image_info)`
// before. Times are seconds since 1970.
typedef struct lxi_stored_image_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The digest of its bytes, which names it.
    struct lxi_fingerprint fingerprint;
    // Container or virtual machine.
    lxi_image_type image_type;
    // One file or two.
    lxi_form form;
    // The kernel's name of the machine that it is for: `x86_64`.
    struct lxi_str architecture;
    // The size of all its files in bytes.
    uint64_t bytes;
    // The size of the rootfs file of a split image in bytes; else 0.
    uint64_t rootfs_bytes;
    // When it was made, as its metadata says.
    int64_t created_at;
    // When it may be removed; 0 for never.
    int64_t expires_at;
    // When it came into this store.
    int64_t uploaded_at;
    // When something was last made from it; 0 for never.
    int64_t last_used_at;
    // Counts the changes made to it in this store.
    uint64_t revision;
    // What an edit may be based on: the ETag that LXD's REST API gives.
    struct lxi_str etag;
    // The name that its file came with: of a split image, the metadata's. May be empty.
    struct lxi_str file_name;
    // The name that the rootfs file came with. May be empty.
    struct lxi_str rootfs_name;
    // Where newer versions come from: the server's address; empty for nowhere.
    struct lxi_str source_server;
    // How to talk to it: `lxd`, `simplestreams` or `direct`.
    struct lxi_str source_protocol;
    // The alias that was asked for there.
    struct lxi_str source_alias;
    // How many properties it has: `lxi_stored_image_property_at`.
    size_t properties;
    // How many aliases it has: `lxi_stored_image_alias_at`.
    size_t aliases;
    // Whether clients that have not authenticated may read it.
    bool is_public;
    // Whether it follows its source.
    bool auto_update;
    // Whether it came as a side effect of using a remote image, and goes when it is not used.
    bool cached;
} lxi_stored_image_info;

// A name that points to an image.
typedef struct lxi_alias {
    // The name; it may hold `/`.
    struct lxi_str name;
    // What it is for, in words; may be empty.
    struct lxi_str description;
} lxi_alias;

// Where an image came from and newer versions of it come from. Set `size` to `sizeof(lxi_update_source)`.
typedef struct lxi_update_source {
    // The size of this structure in bytes.
    size_t size;
    // The server's address.
    struct lxi_str server;
    // How to talk to the server: `lxd`, `simplestreams` or `direct`.
    struct lxi_str protocol;
    // The alias that was asked for.
    struct lxi_str alias;
    // The server's certificate in PEM, where it is not signed by a known authority; or empty.
    struct lxi_str certificate;
    // Whether a container's or a virtual machine's image is meant by the alias; 0 if that is not said.
    lxi_image_type image_type;
} lxi_update_source;

// How an image is imported. NULL, or all but `size` zero: a private image without an alias, described by its own
// metadata.
typedef struct lxi_import_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_IMPORT_….
    uint32_t flags;
    // Aliases that it gets.
    const struct lxi_alias *aliases;
    // How many.
    size_t aliases_len;
    // Properties that win over the image's own, and survive a refresh.
    const struct lxi_pair *properties;
    // How many.
    size_t properties_len;
    // Properties that the image's source tells: they win over the image's own, and a refresh brings newer ones.
    const struct lxi_pair *source_properties;
    // How many.
    size_t source_properties_len;
    // The fingerprint that it must have, or NULL.
    const struct lxi_fingerprint *expected_fingerprint;
    // When it may be removed, in seconds since 1970; wins over the image's own date. 0 if that is not said.
    int64_t expires_at;
    // The name that its file is exported under; or empty. Refused unless it is a plain name.
    struct lxi_str file_name;
    // Where it comes from, or NULL.
    const struct lxi_update_source *source;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_import_options;

// A change to an image. Set `size` to `sizeof(lxi_edit)`; what is zero does not change.
typedef struct lxi_edit {
    // The size of this structure in bytes.
    size_t size;
    // LXI_EDIT_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // With LXI_EDIT_EXPIRES_AT: when it may be removed, in seconds since 1970; 0 for never.
    int64_t expires_at;
    // Properties to set.
    const struct lxi_pair *properties;
    // How many.
    size_t properties_len;
    // Names of properties to remove, where they are there.
    const struct lxi_str *remove;
    // How many.
    size_t remove_len;
    // The ETag that the image must still have; or empty.
    struct lxi_str etag;
    // With LXI_EDIT_REVISION: the revision that the image must still have.
    uint64_t revision;
} lxi_edit;

// Which cached images go. NULL, or all but `size` zero: those that were not used for 10 days, which is what LXD does,
// and those past their expiry date. Images that were put in the store on purpose never go.
typedef struct lxi_prune_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_PRUNE_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // With LXI_PRUNE_UNUSED_FOR: how long an image must not have been used; with 0, only the expiry date counts.
    uint64_t unused_for_seconds;
} lxi_prune_options;

// Why an image was removed: LXI_REMOVED_….
typedef uint32_t lxi_removed;

// How a store is checked. NULL, or all but `size` zero: looks, and changes nothing.
typedef struct lxi_check_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_CHECK_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_check_options;

// What a check found; filled by `lxi_check_report_get`. Set `size` to `sizeof(lxi_check_info)` before.
typedef struct lxi_check_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // Images in the catalog.
    uint64_t images;
    // Bytes that were hashed.
    uint64_t bytes;
    // Leftovers of processes that are gone, swept on the way.
    uint64_t swept;
    // How many findings there are: `lxi_check_report_finding_at`.
    size_t findings;
    // How many of them a repair left as they are: `lxi_check_report_unrepaired_at`.
    size_t unrepaired;
} lxi_check_info;

// What is not as it must be: LXI_FINDING_….
typedef uint32_t lxi_finding_kind;

// One finding; filled by `lxi_check_report_finding_at`. Set `size` to `sizeof(lxi_finding)` before.
typedef struct lxi_finding {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // What is not as it must be.
    lxi_finding_kind kind;
    // Whether it is about one image, which `fingerprint` names.
    bool has_fingerprint;
    // The image.
    struct lxi_fingerprint fingerprint;
    // The finding in words.
    struct lxi_str message;
} lxi_finding;

// It worked.
#define LXI_OK 0

// The thing that was named does not exist; also: an index past the end of a list.
#define LXI_NOT_FOUND 1

// The thing that was to be made is already there.
#define LXI_ALREADY_EXISTS 2

// An argument makes no sense: NULL, misaligned, too long, no UTF-8, of a wrong size, a freed handle or one of another
// kind.
#define LXI_INVALID_INPUT 3

// The bytes are not what their format says they must be.
#define LXI_MALFORMED 4

// The bytes are well formed, but ask for something that this library does not do.
#define LXI_UNSUPPORTED 5

// The piece that would do it was compiled out; the message names the feature.
#define LXI_FEATURE_DISABLED 6

// A digest, a size or an ETag differs from the one that was expected; the error has both.
#define LXI_MISMATCH 7

// A name or a link would lead out of the place it belongs to.
#define LXI_UNSAFE_PATH 8

// A limit was reached; the error names it, and `lxi_limits_set` raises it.
#define LXI_LIMIT_EXCEEDED 9

// Several things match where exactly one is needed.
#define LXI_AMBIGUOUS 10

// Somebody else holds the thing, and the wait that was allowed is over.
#define LXI_BUSY 11

// A template could not be parsed or rendered.
#define LXI_TEMPLATE 12

// A server answered wrongly, late or not at all.
#define LXI_REMOTE 13

// The caller asked to stop, by an `lxi_cancel` or by what a callback returned.
#define LXI_CANCELLED 14

// The operating system refused; the message tells why.
#define LXI_IO 15

// There is no space left on the file system that is written to, or in the quota there.
#define LXI_STORAGE_FULL 16

// Something between here and the data failed in a way that another try may mend.
#define LXI_TRANSIENT 17

// A defect of this library: it panicked, and the message has the panic's text. Handles that were given to the call as
// non-const pointers can only be freed afterwards. Please report it.
#define LXI_PANIC 100

// An error of a kind that is newer than this list.
#define LXI_OTHER 101

// As an option: whichever is usual. Never a result.
#define LXI_FORM_DEFAULT 0

// One archive with metadata and rootfs.
#define LXI_FORM_UNIFIED 1

// A metadata archive and a rootfs file.
#define LXI_FORM_SPLIT 2

// The rootfs is a tree of files.
#define LXI_TYPE_CONTAINER 1

// The rootfs is a disk.
#define LXI_TYPE_VIRTUAL_MACHINE 2

// A value that this version of the list does not know.
#define LXI_OMISSION_OTHER 0

// A device node, not created: not permitted here, or not wanted.
#define LXI_OMISSION_DEVICE 1

// The owner, left as the caller's own: only root can give files away.
#define LXI_OMISSION_OWNER 2

// Setuid and setgid bits, left off because the owner is not the image's.
#define LXI_OMISSION_SET_ID 3

// An extended attribute.
#define LXI_OMISSION_XATTR 4

// The modification time, which the file system would not take.
#define LXI_OMISSION_TIME 5

// The whole entry, which stands at the top of the archive and is not part of an image.
#define LXI_OMISSION_STRAY 6

// The whole object.
#define LXI_OMISSION_SKIPPED 7

// One part of the object: an alias, a property, an attribute of a set.
#define LXI_OMISSION_DROPPED 8

// A value that was out of range; another one stands in its place.
#define LXI_OMISSION_CLAMPED 9

// A value that was missing; another one was used.
#define LXI_OMISSION_DEFAULTED 10

// Something that the caller asked for and that had no effect.
#define LXI_OMISSION_NOT_HONOURED 11

// The whole object, which was there before and had to go.
#define LXI_OMISSION_REMOVED 12

// A value that this version of the list does not know.
#define LXI_PHASE_OTHER 0

// Reading and hashing.
#define LXI_PHASE_HASH 1

// Reading, decoding and checking.
#define LXI_PHASE_VERIFY 2

// Reading, decoding and writing a tree.
#define LXI_PHASE_UNPACK 3

// Reading a tree and writing an archive.
#define LXI_PHASE_PACK 4

// Reading one archive and writing another.
#define LXI_PHASE_CONVERT 5

// From a file descriptor. It is borrowed for the call that takes the input, which duplicates it. A regular file is
// read at positions, so its offset neither matters nor moves, and it may be read many times; a pipe is read once.
#define LXI_INPUT_FD 1

// From memory, which is borrowed for the call that takes the input, and copied. It may be read many times.
#define LXI_INPUT_BYTES 2

// From a callback. It is read once, from front to back: a second reading fails with LXI_INVALID_INPUT.
#define LXI_INPUT_STREAM 3

// From the file at a path. A pipe or a device is read as a stream.
#define LXI_INPUT_PATH 4

// A value that this version of the list does not know.
#define LXI_ENTRY_OTHER 0

// A regular file.
#define LXI_ENTRY_FILE 1

// A directory.
#define LXI_ENTRY_DIRECTORY 2

// A symbolic link.
#define LXI_ENTRY_SYMLINK 3

// A further name of an entry that came earlier.
#define LXI_ENTRY_HARD_LINK 4

// A character device.
#define LXI_ENTRY_CHAR_DEVICE 5

// A block device.
#define LXI_ENTRY_BLOCK_DEVICE 6

// A named pipe.
#define LXI_ENTRY_FIFO 7

// A Unix socket.
#define LXI_ENTRY_SOCKET 8

// Whichever is usual: tar when packing, the source's own when converting.
#define LXI_ROOTFS_DEFAULT 0

// A tar archive, compressed as a whole.
#define LXI_ROOTFS_TAR 1

// A SquashFS.
#define LXI_ROOTFS_SQUASHFS 2

// Only the first image has it.
#define LXI_DIFFERENCE_ONLY_IN_FIRST 1

// Only the second image has it.
#define LXI_DIFFERENCE_ONLY_IN_SECOND 2

// Both have it, with other attributes or content.
#define LXI_DIFFERENCE_CHANGED 3

// LXD's: pongo2 4.
#define LXI_DIALECT_LXD 0

// Incus's: pongo2 6.
#define LXI_DIALECT_INCUS 1

// A value that this version of the list does not know.
#define LXI_ACTION_OTHER 0

// The file was not there.
#define LXI_ACTION_CREATED 1

// The file was there with another content.
#define LXI_ACTION_REPLACED 2

// The file was there with this very content.
#define LXI_ACTION_UNCHANGED 3

// The rule did not apply.
#define LXI_ACTION_SKIPPED 4

// The rule failed, and its file is as it was.
#define LXI_ACTION_FAILED 5

// A value that this version of the list does not know.
#define LXI_REMOVED_OTHER 0

// Its expiry date is over.
#define LXI_REMOVED_EXPIRED 1

// It was not used for too long.
#define LXI_REMOVED_UNUSED 2

// A value that this version of the list does not know.
#define LXI_FINDING_OTHER 0

// The catalog is damaged. `lxi_store_repair` makes it anew.
#define LXI_FINDING_CATALOG 1

// An image's file is not there. Repairing removes the image.
#define LXI_FINDING_MISSING 2

// An image's bytes are not those of its fingerprint. Repairing puts the files aside and removes the image.
#define LXI_FINDING_DAMAGED 3

// An image's files can't be opened or read. Repairing leaves it where it is.
#define LXI_FINDING_UNREADABLE 4

// Files of an image that the catalog does not know. Repairing takes it in again, or puts the files aside.
#define LXI_FINDING_UNLISTED 5

// An image's sidecar file is not up to date. Repairing writes it.
#define LXI_FINDING_SIDECAR 6

// A file that no store makes. Repairing puts it aside.
#define LXI_FINDING_STRAY 7

// What could not be brought back when the catalog was made anew.
#define LXI_FINDING_LOST 8

// An image's files are whole, and the catalog has other sizes. Repairing corrects the catalog.
#define LXI_FINDING_ROW 9

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the interface that the library has.
//
// Threads: any. Can't fail.
uint32_t lxi_abi_version(void);

// The version of the library, such as `0.2.0`, terminated by NUL.
//
// Owner: the library; never freed. Threads: any. Can't fail.
const char *lxi_version(void);

// The name of a status, such as `UnsafePath`, terminated by NUL; `Unknown` for an unknown number.
//
// Owner: the library; never freed. Threads: any. Can't fail.
const char *lxi_status_name(lxi_status status);

// Whether a part of the library was compiled in: `gzip`, `xz`, `zstd`, `bzip2`, `lz4`, `store`, `templates`. A name
// that this version does not know is not there either.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_has_feature(struct lxi_str name, bool *yes, struct lxi_error **error);

// Fills `info` with what the error says.
//
// Owner: the texts belong to the error. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_error_get(const struct lxi_error *error, struct lxi_error_info *info);

// Frees an error; NULL is allowed.
//
// Threads: any, the error being no longer used. Errors: LXI_INVALID_INPUT for what is no error, or was freed (debug
// builds).
lxi_status lxi_error_free(struct lxi_error *error);

// The bytes of a buffer.
//
// Owner: the buffer. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_buffer_get(const struct lxi_buffer *buffer, struct lxi_bytes *bytes, struct lxi_error **error);

// Frees a buffer; NULL is allowed.
//
// Threads: any, the buffer being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_buffer_free(struct lxi_buffer *buffer);

// Makes limits with the default values.
//
// Owner: the caller, who frees it with `lxi_limits_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_limits_new(struct lxi_limits **limits, struct lxi_error **error);

// Makes limits for images whose maker is trusted: what guards memory, disk and time is lifted as far as the formats
// go. Rules about paths are not limits and always hold.
//
// Owner: the caller, who frees it with `lxi_limits_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_limits_new_trusted(struct lxi_limits **limits, struct lxi_error **error);

// Sets one limit by its name. Bytes, unless it counts something else; `lxi_limits_name_at` lists the names. Two bound
// what goes to temporary files: over `diff_memory` comparing two images uses one, and `spool` is the most of a
// SquashFS that comes as a stream.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT for an unknown name, and for 0.
lxi_status lxi_limits_set(struct lxi_limits *limits, struct lxi_str name, uint64_t value, struct lxi_error **error);

// The value of one limit.
//
// Threads: any. Errors: LXI_INVALID_INPUT for an unknown name.
lxi_status lxi_limits_get(const struct lxi_limits *limits,
                          struct lxi_str name,
                          uint64_t *value,
                          struct lxi_error **error);

// The name of the limit with an index from 0.
//
// Owner: the library; never freed. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_limits_name_at(size_t index, struct lxi_str *name, struct lxi_error **error);

// Frees limits; NULL is allowed.
//
// Threads: any, the limits being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_limits_free(struct lxi_limits *limits);

// Makes an empty record.
//
// Owner: the caller, who frees it with `lxi_omissions_free` after the calls that it was given to. Threads: any.
// Errors: LXI_INVALID_INPUT.
lxi_status lxi_omissions_new(struct lxi_omissions **omissions, struct lxi_error **error);

// Looks at what was recorded so far, and fills `info` with how much it is. `lxi_omissions_at` and
// `lxi_omissions_kind_at` tell of what was there at this call; what they gave before is no longer valid.
//
// Threads: one at a time, while no call that is given the record begins; calls that go on already do not matter.
// Errors: LXI_INVALID_INPUT.
lxi_status lxi_omissions_get(struct lxi_omissions *omissions,
                             struct lxi_omissions_info *info,
                             struct lxi_error **error);

// Fills `omission` with one thing that was left out, with an index from 0, in the order in which they were met. None
// is there before `lxi_omissions_get`.
//
// Owner: path and text belong to `omissions`. Threads: any, while nobody calls `lxi_omissions_get`. Errors:
// LXI_NOT_FOUND for an index past the end.
lxi_status lxi_omissions_at(const struct lxi_omissions *omissions,
                            size_t index,
                            struct lxi_omission *omission,
                            struct lxi_error **error);

// A kind of omissions, with an index from 0, sorted by text: the text of `lxi_omission`, and how many there were of
// it in all. None is there before `lxi_omissions_get`.
//
// Owner: the text belongs to `omissions`. Threads: any, while nobody calls `lxi_omissions_get`. Errors: LXI_NOT_FOUND
// for an index past the end.
lxi_status lxi_omissions_kind_at(const struct lxi_omissions *omissions,
                                 size_t index,
                                 struct lxi_str *text,
                                 uint64_t *count,
                                 struct lxi_error **error);

// Frees a record; NULL is allowed.
//
// Threads: any, the record being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_omissions_free(struct lxi_omissions *omissions);

// Makes a switch that is not set.
//
// Owner: the caller, who frees it with `lxi_cancel_free` after the calls that it was given to. Threads: any. Errors:
// LXI_INVALID_INPUT.
lxi_status lxi_cancel_new(struct lxi_cancel **cancel, struct lxi_error **error);

// Stops the calls, soon: each undoes what it began and fails with LXI_CANCELLED. A call that the switch is given to
// later stops at once; a switch cannot be reset.
//
// Threads: any, while others use the switch. Errors: LXI_INVALID_INPUT.
lxi_status lxi_cancel_set(const struct lxi_cancel *cancel, struct lxi_error **error);

// Whether the switch is set: by `lxi_cancel_set`, or by a progress callback that stopped a call.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_cancel_is_set(const struct lxi_cancel *cancel, bool *yes, struct lxi_error **error);

// Frees a switch; NULL is allowed.
//
// Threads: any, the switch being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_cancel_free(struct lxi_cancel *cancel);

// Reads a fingerprint: 64 hex digits of either case and nothing else.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_fingerprint_parse(struct lxi_str text, struct lxi_fingerprint *fingerprint, struct lxi_error **error);

// Writes a fingerprint as 64 lower-case hex digits and a NUL to `text`, which has room for `capacity` bytes: at least
// LXI_FINGERPRINT_TEXT.
//
// Threads: any. Errors: LXI_INVALID_INPUT, also when the room is too small.
lxi_status lxi_fingerprint_format(const struct lxi_fingerprint *fingerprint,
                                  char *text,
                                  size_t capacity,
                                  struct lxi_error **error);

// Makes an empty hasher.
//
// Owner: the caller, who frees it with `lxi_hasher_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_hasher_new(struct lxi_hasher **hasher, struct lxi_error **error);

// Takes the next bytes.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT.
lxi_status lxi_hasher_update(struct lxi_hasher *hasher, struct lxi_bytes bytes, struct lxi_error **error);

// Hashes everything that `read` returns, up to its end, and stores the number of bytes in `count` (which may be NULL).
//
// `read` and `user` are used during the call only. Threads: one at a time. Errors: LXI_INVALID_INPUT, and what `read`
// returns; the hasher has seen what came before.
lxi_status lxi_hasher_update_from(struct lxi_hasher *hasher,
                                  lxi_read_fn read,
                                  void *user,
                                  uint64_t *count,
                                  struct lxi_error **error);

// The fingerprint of all that the hasher has seen so far, and in `bytes` (which may be NULL) how many bytes that were.
// More may follow.
//
// Threads: any, while nobody updates it. Errors: LXI_INVALID_INPUT.
lxi_status lxi_hasher_get(const struct lxi_hasher *hasher,
                          struct lxi_fingerprint *fingerprint,
                          uint64_t *bytes,
                          struct lxi_error **error);

// Frees a hasher; NULL is allowed.
//
// Threads: any, the hasher being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_hasher_free(struct lxi_hasher *hasher);

// The fingerprint of one file, or of two one after the other (`second` may be NULL). They need not be an image.
// `monitor` may be NULL.
//
// Threads: any. Errors: LXI_INVALID_INPUT, LXI_NOT_FOUND, LXI_CANCELLED, LXI_IO.
lxi_status lxi_fingerprint_of(const struct lxi_input *first,
                              const struct lxi_input *second,
                              const struct lxi_monitor *monitor,
                              struct lxi_fingerprint *fingerprint,
                              struct lxi_error **error);

// Reads a `metadata.yaml`. `limits` may be NULL.
//
// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_MALFORMED with line, column and
// key in the message, LXI_LIMIT_EXCEEDED, LXI_INVALID_INPUT.
lxi_status lxi_metadata_parse(struct lxi_bytes yaml,
                              const struct lxi_limits *limits,
                              struct lxi_metadata **metadata,
                              struct lxi_error **error);

// Describes a new image. `creation_date` is in seconds since 1970, and not 0.
//
// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_metadata_new(struct lxi_str architecture,
                            int64_t creation_date,
                            struct lxi_metadata **metadata,
                            struct lxi_error **error);

// Makes a copy that can be changed apart.
//
// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any, while nobody changes the metadata. Errors:
// LXI_INVALID_INPUT.
lxi_status lxi_metadata_copy(const struct lxi_metadata *metadata, struct lxi_metadata **copy, struct lxi_error **error);

// Fills `info` with what the metadata says.
//
// Owner: the texts belong to the metadata. Threads: any, while nobody changes it. Errors: LXI_INVALID_INPUT.
lxi_status lxi_metadata_get(const struct lxi_metadata *metadata,
                            struct lxi_metadata_info *info,
                            struct lxi_error **error);

// Names another architecture.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT for an empty name, or one with a NUL.
lxi_status lxi_metadata_set_architecture(struct lxi_metadata *metadata,
                                         struct lxi_str architecture,
                                         struct lxi_error **error);

// Changes when the image was made, in seconds since 1970.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT for 0.
lxi_status lxi_metadata_set_creation_date(struct lxi_metadata *metadata, int64_t seconds, struct lxi_error **error);

// Changes when the image may be removed, in seconds since 1970; 0 for never.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT.
lxi_status lxi_metadata_set_expiry_date(struct lxi_metadata *metadata, int64_t seconds, struct lxi_error **error);

// The property with an index from 0, in the order of the file.
//
// Owner: the texts belong to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND past the last
// one.
lxi_status lxi_metadata_property_at(const struct lxi_metadata *metadata,
                                    size_t index,
                                    struct lxi_str *key,
                                    struct lxi_str *value,
                                    struct lxi_error **error);

// The value of a property.
//
// Owner: the text belongs to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND.
lxi_status lxi_metadata_property(const struct lxi_metadata *metadata,
                                 struct lxi_str key,
                                 struct lxi_str *value,
                                 struct lxi_error **error);

// Sets a property in its place, or adds it at the end.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT for a NUL in either text.
lxi_status lxi_metadata_set_property(struct lxi_metadata *metadata,
                                     struct lxi_str key,
                                     struct lxi_str value,
                                     struct lxi_error **error);

// Removes a property.
//
// Threads: one at a time. Errors: LXI_NOT_FOUND.
lxi_status lxi_metadata_remove_property(struct lxi_metadata *metadata, struct lxi_str key, struct lxi_error **error);

// Writes the file anew: the same values always give the same bytes. Where nothing was changed keep the original
// bytes, which the fingerprint covers.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any, while nobody changes the metadata.
// Errors: LXI_INVALID_INPUT.
lxi_status lxi_metadata_to_yaml(const struct lxi_metadata *metadata,
                                struct lxi_buffer **yaml,
                                struct lxi_error **error);

// Frees a metadata; NULL is allowed.
//
// Threads: any, the metadata being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_metadata_free(struct lxi_metadata *metadata);

// Fills `info` with the template rule with an index from 0, in the order of the file.
//
// Owner: the texts belong to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND past the last
// one.
lxi_status lxi_metadata_rule_at(const struct lxi_metadata *metadata,
                                size_t index,
                                struct lxi_rule_info *info,
                                struct lxi_error **error);

// An event of a template rule, with those that nobody knows; both indexes from 0.
//
// Owner: the text belongs to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND past the last
// one.
lxi_status lxi_metadata_rule_when_at(const struct lxi_metadata *metadata,
                                     size_t rule,
                                     size_t index,
                                     struct lxi_str *event,
                                     struct lxi_error **error);

// A property of a template rule; both indexes from 0.
//
// Owner: the texts belong to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND past the last
// one.
lxi_status lxi_metadata_rule_property_at(const struct lxi_metadata *metadata,
                                         size_t rule,
                                         size_t index,
                                         struct lxi_str *key,
                                         struct lxi_str *value,
                                         struct lxi_error **error);

// Sets the rule for an absolute path in its place, or adds it at the end.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT for a path that is not absolute, an empty name of a template, a
// NUL in any text.
lxi_status lxi_metadata_set_rule(struct lxi_metadata *metadata,
                                 struct lxi_str path,
                                 const struct lxi_rule *rule,
                                 struct lxi_error **error);

// Removes the rule for a path, spelled as in the file.
//
// Threads: one at a time. Errors: LXI_NOT_FOUND.
lxi_status lxi_metadata_remove_rule(struct lxi_metadata *metadata, struct lxi_str path, struct lxi_error **error);

// Recognises an image: one file with `second` NULL, or metadata and rootfs in either order. Looks at the first KiB of
// each; of a split image whose files are both tars, at as much of each as tells which is the metadata. `limits`, which
// may be NULL, hold for all that is done with the image.
//
// Owner: the caller, who frees it with `lxi_image_free`. Threads: any. Errors: LXI_MALFORMED and LXI_UNSUPPORTED for
// what is no image, LXI_AMBIGUOUS and LXI_INVALID_INPUT for two files that don't make one, LXI_FEATURE_DISABLED when a
// codec is compiled out, LXI_NOT_FOUND, LXI_IO.
lxi_status lxi_image_open(const struct lxi_input *first,
                          const struct lxi_input *second,
                          const struct lxi_limits *limits,
                          struct lxi_image **image,
                          struct lxi_error **error);

// Fills `info` with what is known of the image.
//
// Owner: the texts are the library's, and never freed. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_image_get(const struct lxi_image *image, struct lxi_image_info *info, struct lxi_error **error);

// The metadata, without unpacking anything: reads up to `metadata.yaml` and no further.
//
// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_MALFORMED when there is none or
// it breaks a rule, LXI_LIMIT_EXCEEDED, LXI_IO.
lxi_status lxi_image_metadata(const struct lxi_image *image, struct lxi_metadata **metadata, struct lxi_error **error);

// The bytes of `metadata.yaml`, as they stand in the archive.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: as `lxi_image_metadata`, but
// for the content.
lxi_status lxi_image_metadata_bytes(const struct lxi_image *image, struct lxi_buffer **yaml, struct lxi_error **error);

// The bytes of a template, by its name in `templates/`.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_NOT_FOUND when there is
// none of that name, LXI_LIMIT_EXCEEDED, LXI_MALFORMED, LXI_IO.
lxi_status lxi_image_template(const struct lxi_image *image,
                              struct lxi_str name,
                              struct lxi_buffer **source,
                              struct lxi_error **error);

// The fingerprint, read from the files' bytes as stored. Unpacking and verifying compute it anyway. `monitor` may be
// NULL.
//
// Threads: any. Errors: LXI_CANCELLED, LXI_IO; LXI_INVALID_INPUT for a stream that was read before.
lxi_status lxi_image_fingerprint(const struct lxi_image *image,
                                 const struct lxi_monitor *monitor,
                                 struct lxi_fingerprint *fingerprint,
                                 struct lxi_error **error);

// Frees an image; NULL is allowed. Releases its streams.
//
// Threads: any, the image being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_image_free(struct lxi_image *image);

// Reads and decodes all of the image and checks every member. Rules that single members break are findings of the
// result; damage to the archive itself is an error. `options` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_verify_report_free`. Threads: any. Errors: LXI_MALFORMED,
// LXI_LIMIT_EXCEEDED, LXI_UNSUPPORTED where reading can't go on, LXI_CANCELLED, LXI_IO.
lxi_status lxi_image_verify(const struct lxi_image *image,
                            const struct lxi_verify_options *options,
                            struct lxi_verify_report **verification,
                            struct lxi_error **error);

// As `lxi_image_verify`, and shows every member of the root file system on the way to `show`, which gets `user`.
// Members that break a rule are findings and not shown; the disk of a virtual machine is not one. `verification` may
// be NULL.
//
// Owner: the caller, who frees the result with `lxi_verify_report_free`. Threads: any. Errors: as `lxi_image_verify`,
// and what `show` returns.
lxi_status lxi_image_survey(const struct lxi_image *image,
                            const struct lxi_verify_options *options,
                            lxi_entry_fn show,
                            void *user,
                            struct lxi_verify_report **verification,
                            struct lxi_error **error);

// Fills `info` with what reading the image showed.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_verify_report_get(const struct lxi_verify_report *verification,
                                 struct lxi_verify_info *info,
                                 struct lxi_error **error);

// A copy of the image's metadata.
//
// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_NOT_FOUND when it can't be read.
lxi_status lxi_verify_report_metadata(const struct lxi_verify_report *verification,
                                      struct lxi_metadata **metadata,
                                      struct lxi_error **error);

// A name in `templates/`, sorted, with an index from 0.
//
// Owner: the bytes belong to the verification. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_verify_report_template_at(const struct lxi_verify_report *verification,
                                         size_t index,
                                         struct lxi_bytes *name,
                                         struct lxi_error **error);

// A member at the archive's top that no image has, with an index from 0.
//
// Owner: the bytes belong to the verification. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_verify_report_stray_at(const struct lxi_verify_report *verification,
                                      size_t index,
                                      struct lxi_bytes *path,
                                      struct lxi_error **error);

// Fills `finding` with a rule that the image breaks, with an index from 0, in the order of the archive.
//
// Owner: the texts belong to the verification. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_verify_report_finding_at(const struct lxi_verify_report *verification,
                                        size_t index,
                                        struct lxi_error_info *finding,
                                        struct lxi_error **error);

// Frees a verification; NULL is allowed.
//
// Threads: any, the verification being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_verify_report_free(struct lxi_verify_report *verification);

// Unpacks to `destination` in one pass, hashed, decoded, checked and written at the same time: nothing is visible
// there unless the fingerprint is `expected_fingerprint` and every rule holds. The destination must not exist, or be
// an empty directory. `options` and `unpacked` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_unpacked_free`. Threads: any. Errors: LXI_MISMATCH with both
// values; LXI_ALREADY_EXISTS or LXI_UNSAFE_PATH for the destination; for the image LXI_MALFORMED, LXI_UNSAFE_PATH,
// LXI_UNSUPPORTED, LXI_LIMIT_EXCEEDED; LXI_CANCELLED; LXI_IO. Whatever the error, nothing is left.
lxi_status lxi_image_unpack_verified(const struct lxi_image *image,
                                     struct lxi_str destination,
                                     const struct lxi_fingerprint *expected_fingerprint,
                                     const struct lxi_unpack_options *options,
                                     struct lxi_unpacked **unpacked,
                                     struct lxi_error **error);

// Unpacks to `destination` without comparing the fingerprint, for images from a trusted origin. `options` and
// `unpacked` may be NULL.
//
// Owner, threads and errors: as `lxi_image_unpack_verified`, but for LXI_MISMATCH.
lxi_status lxi_image_unpack_unverified(const struct lxi_image *image,
                                       struct lxi_str destination,
                                       const struct lxi_unpack_options *options,
                                       struct lxi_unpacked **unpacked,
                                       struct lxi_error **error);

// Fills `info` with the result of unpacking.
//
// Owner: the texts belong to `unpacked`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_unpacked_get(const struct lxi_unpacked *unpacked,
                            struct lxi_unpacked_info *info,
                            struct lxi_error **error);

// A copy of the image's metadata.
//
// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_unpacked_metadata(const struct lxi_unpacked *unpacked,
                                 struct lxi_metadata **metadata,
                                 struct lxi_error **error);

// Something that was left out, with an index from 0: bytes of the entry's path, and what was left out of it in words.
//
// Owner: both belong to `unpacked`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_unpacked_omission_at(const struct lxi_unpacked *unpacked,
                                    size_t index,
                                    struct lxi_bytes *path,
                                    struct lxi_str *what,
                                    struct lxi_error **error);

// A kind of omissions, with an index from 0: in words, and how many there were in all.
//
// Owner: the text belongs to `unpacked`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_unpacked_omission_kind_at(const struct lxi_unpacked *unpacked,
                                         size_t index,
                                         struct lxi_str *what,
                                         uint64_t *count,
                                         struct lxi_error **error);

// Frees the result of unpacking; NULL is allowed. The unpacked files stay.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_unpacked_free(struct lxi_unpacked *unpacked);

// Unpacks into a private directory beside `destination`, computing the fingerprint in the same pass. The destination
// must not exist, or be an empty directory; it stays as it is until `lxi_staged_commit`, before which the image must
// be verified or accepted. `options` may be NULL.
//
// Owner: the caller, who frees it with `lxi_staged_free`. Threads: any. Errors: as `lxi_image_unpack_verified`, but
// for LXI_MISMATCH. Whatever the error, nothing is left.
lxi_status lxi_image_stage(const struct lxi_image *image,
                           struct lxi_str destination,
                           const struct lxi_unpack_options *options,
                           struct lxi_staged **staged,
                           struct lxi_error **error);

// Fills `info` with what was unpacked.
//
// Threads: any, while nobody changes it. Errors: LXI_INVALID_INPUT when the staged image is gone.
lxi_status lxi_staged_get(const struct lxi_staged *staged, struct lxi_unpacked_info *info, struct lxi_error **error);

// Compares the fingerprint. On a mismatch everything is removed, and the handle can only be freed.
//
// Threads: one at a time. Errors: LXI_MISMATCH with both values; LXI_INVALID_INPUT when it was verified or accepted
// before, or it is gone.
lxi_status lxi_staged_verify(struct lxi_staged *staged,
                             const struct lxi_fingerprint *expected_fingerprint,
                             struct lxi_error **error);

// Takes the image as it is: its origin is trusted, or nobody knows its fingerprint.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT when it was verified or accepted before, or it is
// more.
lxi_status lxi_staged_accept_unverified(struct lxi_staged *staged, struct lxi_error **error);

// Gives the directory its name beside where it was staged, in one step: a plain name, that of the destination or
// another one. `unpacked` may be NULL. After an error it is staged as before, and can be committed under another name.
//
// Owner: the caller, who frees the result with `lxi_unpacked_free`, and `staged` all the same. Threads: one at a time.
// Errors: LXI_ALREADY_EXISTS when something other than an empty directory has that name; LXI_INVALID_INPUT for a name
// with a slash, and when it was not verified or accepted; LXI_IO.
lxi_status lxi_staged_commit(struct lxi_staged *staged,
                             struct lxi_str name,
                             struct lxi_unpacked **unpacked,
                             struct lxi_error **error);

// Removes everything, and says so if that fails. The handle can only be freed afterwards.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT when the staged image is gone, LXI_IO.
lxi_status lxi_staged_discard(struct lxi_staged *staged, struct lxi_error **error);

// Frees a staged image, and removes it from the disk unless it was committed; NULL is allowed.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_staged_free(struct lxi_staged *staged);

// Packs to the file `out`; a split image's rootfs goes to `out` with `.root` behind it. The same tree gives the same
// bytes. `written` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_written_free`. Threads: any. Errors: LXI_ALREADY_EXISTS when a
// file of that name is there, LXI_UNSUPPORTED for a disk that is no image's, LXI_MALFORMED for the metadata,
// LXI_NOT_FOUND, LXI_IO, LXI_CANCELLED. Whatever the error, nothing is left.
lxi_status lxi_pack(const struct lxi_pack_options *options,
                    struct lxi_str out,
                    struct lxi_written **written,
                    struct lxi_error **error);

// Packs a unified image into `write`, which gets `user`; both are used during the call only. `written` may be NULL.
//
// Owner, threads and errors: as `lxi_pack`; what `write` returns; LXI_INVALID_INPUT when the options ask for a split
// image.
lxi_status lxi_pack_to(const struct lxi_pack_options *options,
                       lxi_write_fn write,
                       void *user,
                       struct lxi_written **written,
                       struct lxi_error **error);

// Writes the image to `out` in another form or codec, in one stream; a split image's rootfs goes to `out` with `.root`
// behind it. `options` and `written` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_written_free`. Threads: any. Errors: LXI_ALREADY_EXISTS for the
// output; those of `lxi_image_verify` for the source, and the first rule that it breaks; LXI_MISMATCH. Whatever the
// error, nothing is left.
lxi_status lxi_image_convert(const struct lxi_image *image,
                             const struct lxi_convert_options *options,
                             struct lxi_str out,
                             struct lxi_written **written,
                             struct lxi_error **error);

// Writes the image to `write`, which gets `user`, as a unified one; both are used during the call only. `options` and
// `written` may be NULL.
//
// Owner, threads and errors: as `lxi_image_convert`; what `write` returns; LXI_INVALID_INPUT when the options ask for
// a split image.
lxi_status lxi_image_convert_to(const struct lxi_image *image,
                                const struct lxi_convert_options *options,
                                lxi_write_fn write,
                                void *user,
                                struct lxi_written **written,
                                struct lxi_error **error);

// Fills `info` with what was written.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_written_get(const struct lxi_written *written, struct lxi_written_info *info, struct lxi_error **error);

// A file of the new image, with an index from 0, in the order in which they make the fingerprint.
//
// Owner: the path belongs to `written`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_written_file_at(const struct lxi_written *written,
                               size_t index,
                               struct lxi_str *path,
                               struct lxi_error **error);

// A member that no image can hold, or that was left out, with an index from 0: bytes of its path, and why in words.
//
// Owner: both belong to `written`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_written_omission_at(const struct lxi_written *written,
                                   size_t index,
                                   struct lxi_bytes *path,
                                   struct lxi_str *reason,
                                   struct lxi_error **error);

// Frees what tells of a written image; NULL is allowed. The image stays.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_written_free(struct lxi_written *written);

// Compares what two images hold. Their form and codecs don't count. `options` may be NULL; `count` gets how many
// differences there are.
//
// Owner: the caller, who frees the result with `lxi_differences_free`. Threads: any. Errors: those of
// `lxi_image_verify`, and LXI_MALFORMED or LXI_UNSAFE_PATH when one of them breaks a rule.
lxi_status lxi_image_differences(const struct lxi_image *first,
                                 const struct lxi_image *second,
                                 const struct lxi_verify_options *options,
                                 struct lxi_differences **found,
                                 size_t *count,
                                 struct lxi_error **error);

// Fills `info` with a difference, with an index from 0, sorted by path.
//
// Owner: the path belongs to `found`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_differences_at(const struct lxi_differences *found,
                              size_t index,
                              struct lxi_difference_info *info,
                              struct lxi_error **error);

// An attribute that differs: its name (`mode`, `owner`, `mtime`, `content` …) and both values; both indexes from 0.
//
// Owner: the texts belong to `found`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_differences_attribute_at(const struct lxi_differences *found,
                                        size_t difference,
                                        size_t index,
                                        struct lxi_str *name,
                                        struct lxi_str *first,
                                        struct lxi_str *second,
                                        struct lxi_error **error);

// Frees differences; NULL is allowed.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_differences_free(struct lxi_differences *found);

// Makes a context from a JSON object with the names that LXD and Incus give to templates:
//
//     { "container": { "name": "c1", "type": "container", "architecture": "x86_64",
//                      "privileged": "false", "ephemeral": "false" },
//       "config":    { "user.fqdn": "c1.example.org" },
//       "devices":   { "eth0": { "type": "nic" } } }
//
// `container` (or `instance`) stands for both of them, `config` for `config_get` too. `trigger`, `path` and
// `properties` may be given; `lxi_apply` sets them for each rule. Names that are not given are there and empty. Any
// other name becomes a variable: numbers, truth values, texts, lists and maps are what they look like, and an object
// with the one key `$int`, `$float` (a text with the number) or `$bytes` (base64) is what JSON can't say.
//
// Owner: the caller, who frees it with `lxi_template_context_free`. Threads: any. Errors: LXI_MALFORMED for what is
// no JSON or no such object, LXI_LIMIT_EXCEEDED above 16 MiB.
lxi_status lxi_template_context_from_json(struct lxi_bytes json,
                                          struct lxi_template_context **context,
                                          struct lxi_error **error);

// Makes a context from a JSON object of variables, and nothing else in it. Values are as in
// `lxi_template_context_from_json`; only `trigger` is made as LXD makes it, `devices` is a map of devices, and
// `$config` gives `config` and `config_get`.
//
// Owner, threads and errors: as `lxi_template_context_from_json`.
lxi_status lxi_template_context_from_variables(struct lxi_bytes json,
                                               struct lxi_template_context **context,
                                               struct lxi_error **error);

// Says what time `{% now %}` shows, in UTC: seconds since 1970. Without it, it is the clock's.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT for a time that no clock of this machine can show.
lxi_status lxi_template_context_set_now(struct lxi_template_context *context,
                                        int64_t seconds,
                                        struct lxi_error **error);

// Frees a context; NULL is allowed.
//
// Threads: any, the context being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_template_context_free(struct lxi_template_context *context);

// Parses a template. `flags` are LXI_TEMPLATE_… or 0; `limits` may be NULL.
//
// Owner: the caller, who frees it with `lxi_template_free`. Threads: any. Errors: LXI_TEMPLATE if it is not well
// formed or asks for another file, LXI_LIMIT_EXCEEDED if it nests too deep or chains too much; the error tells where.
lxi_status lxi_template_parse(struct lxi_bytes source,
                              lxi_dialect dialect,
                              uint32_t flags,
                              const struct lxi_limits *limits,
                              struct lxi_template **parsed,
                              struct lxi_error **error);

// Renders a template. `limits` may be NULL.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any, also several with one template and
// one context. Errors: LXI_TEMPLATE if it asks for what can't be, LXI_LIMIT_EXCEEDED if it writes, works or nests too
// much; the error tells where.
lxi_status lxi_template_render(const struct lxi_template *parsed,
                               const struct lxi_template_context *context,
                               const struct lxi_limits *limits,
                               struct lxi_buffer **text,
                               struct lxi_error **error);

// Fills `warning` with a warning about a template, with an index from 0, in the order of the source.
//
// Owner: the text is the library's, and never freed. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_template_warning_at(const struct lxi_template *parsed,
                                   size_t index,
                                   struct lxi_warning *warning,
                                   struct lxi_error **error);

// Frees a template; NULL is allowed.
//
// Threads: any, the template being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_template_free(struct lxi_template *parsed);

// Applies the template rules that fire at `trigger` (`create`, `copy`, `rename` or `start`) to the directory that
// unpacking made, with `rootfs/` and `templates/`. Each path is resolved below the root as a process in the instance
// would resolve it, never out of it; a file is replaced in one step, or stays as it was. With `metadata` NULL the
// rules come from the directory's `metadata.yaml`. `options` and `applied` may be NULL.
//
// When a rule fails `applied` is set all the same, and tells what became of the rules.
//
// Owner: the caller, who frees `applied` with `lxi_applied_free`, also after an error. Threads: any; one instance at a
// time. Errors: the first failure: LXI_UNSAFE_PATH for a template's name that is not plain and a target that leads out
// or is no regular file, LXI_NOT_FOUND for a missing template, LXI_TEMPLATE and LXI_LIMIT_EXCEEDED from rendering,
// LXI_INVALID_INPUT for numbers in a rule that are none, LXI_MALFORMED, LXI_IO, LXI_CANCELLED.
lxi_status lxi_apply(struct lxi_str directory,
                     const struct lxi_metadata *metadata,
                     struct lxi_str trigger,
                     const struct lxi_template_context *context,
                     const struct lxi_apply_options *options,
                     struct lxi_applied **applied,
                     struct lxi_error **error);

// As `lxi_apply`, with the descriptors of an instance's root and of its image's `templates/`, which are borrowed for
// the call. `metadata` must be given.
//
// Owner, threads and errors: as `lxi_apply`.
lxi_status lxi_apply_at(int32_t rootfs_fd,
                        int32_t templates_fd,
                        const struct lxi_metadata *metadata,
                        struct lxi_str trigger,
                        const struct lxi_template_context *context,
                        const struct lxi_apply_options *options,
                        struct lxi_applied **applied,
                        struct lxi_error **error);

// How many rules were looked at.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_applied_len(const struct lxi_applied *applied, size_t *len, struct lxi_error **error);

// Fills `outcome` with what became of a rule, with an index from 0, in the rules' order.
//
// Owner: the texts and bytes belong to `applied`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_applied_at(const struct lxi_applied *applied,
                          size_t index,
                          struct lxi_outcome *outcome,
                          struct lxi_error **error);

// Frees outcomes; NULL is allowed.
//
// Threads: any, the outcomes being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_applied_free(struct lxi_applied *applied);

// Opens the store at `path`. `options` may be NULL.
//
// Owner: the caller, who frees it with `lxi_store_free`. Threads: any. Errors: LXI_NOT_FOUND when it is not there and
// not to be made; LXI_UNSUPPORTED for a newer layout and for a directory of something else; LXI_MALFORMED when it is
// damaged; LXI_BUSY; LXI_IO.
lxi_status lxi_store_open(struct lxi_str path,
                          const struct lxi_store_options *options,
                          struct lxi_store **store,
                          struct lxi_error **error);

// Frees a store; NULL is allowed. What is on the disk stays.
//
// Threads: any, the store being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_store_free(struct lxi_store *store);

// The images that meet all filters, or all images, in the order of their fingerprints. A filter is a word, which
// matches a part of an alias or the beginning of a fingerprint, or `key=value`, which matches a property or a field.
//
// Owner: the caller, who frees the list with `lxi_image_list_free`. Threads: any. Errors: LXI_INVALID_INPUT for a
// filter that is none, LXI_MALFORMED when the catalog is damaged, LXI_IO.
lxi_status lxi_store_list(const struct lxi_store *store,
                          const struct lxi_str *filters,
                          size_t filters_len,
                          struct lxi_image_list **images,
                          struct lxi_error **error);

// The image that `reference` names: an alias, a whole fingerprint, or the first digits of exactly one, at least four.
// An alias wins over a fingerprint that begins like it; where a container's and a virtual machine's image share it,
// the container's is meant.
//
// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND, whose hint
// suggests what is near; LXI_AMBIGUOUS, naming the candidates; LXI_MALFORMED when the catalog is damaged; LXI_IO.
lxi_status lxi_store_resolve(const struct lxi_store *store,
                             struct lxi_str reference,
                             struct lxi_stored_image **image,
                             struct lxi_error **error);

// As `lxi_store_resolve`, with the type that is meant where a container's and a virtual machine's image share an
// alias: LXI_TYPE_…, or 0. An image of the other type is found where none of this type has the alias.
//
// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: as `lxi_store_resolve`;
// LXI_INVALID_INPUT for an unknown type.
lxi_status lxi_store_resolve_preferring(const struct lxi_store *store,
                                        struct lxi_str reference,
                                        lxi_image_type preferred,
                                        struct lxi_stored_image **image,
                                        struct lxi_error **error);

// One image, as it is now.
//
// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND, LXI_MALFORMED
// when the catalog is damaged, LXI_IO.
lxi_status lxi_store_image(const struct lxi_store *store,
                           const struct lxi_fingerprint *fingerprint,
                           struct lxi_stored_image **image,
                           struct lxi_error **error);

// Opens an image's files to verify, unpack or convert them. They stay readable to the end, also when the image is
// deleted. `limits` may be NULL.
//
// Owner: the caller, who frees it with `lxi_image_free`; it may outlive the store. Threads: any. Errors:
// LXI_NOT_FOUND; LXI_MISMATCH when a file is not as long as it was; LXI_MALFORMED when one is missing; LXI_IO.
lxi_status lxi_store_open_image(const struct lxi_store *store,
                                const struct lxi_fingerprint *fingerprint,
                                const struct lxi_limits *limits,
                                struct lxi_image **image,
                                struct lxi_error **error);

// Records that the image is used now: a cached image is then kept longer.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_BUSY, LXI_IO.
lxi_status lxi_store_mark_used(const struct lxi_store *store,
                               const struct lxi_fingerprint *fingerprint,
                               struct lxi_error **error);

// Removes an image and its aliases. Calls that have it open can read it to the end. Works on a full disk.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_BUSY, LXI_IO.
lxi_status lxi_store_delete(const struct lxi_store *store,
                            const struct lxi_fingerprint *fingerprint,
                            struct lxi_error **error);

// Fills `info` with what the store knew of the image.
//
// Owner: the texts belong to the image. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_stored_image_get(const struct lxi_stored_image *image,
                                struct lxi_stored_image_info *info,
                                struct lxi_error **error);

// A property of the image, with an index from 0.
//
// Owner: the texts belong to the image. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_stored_image_property_at(const struct lxi_stored_image *image,
                                        size_t index,
                                        struct lxi_str *key,
                                        struct lxi_str *value,
                                        struct lxi_error **error);

// The value of a property.
//
// Owner: the text belongs to the image. Threads: any. Errors: LXI_NOT_FOUND.
lxi_status lxi_stored_image_property(const struct lxi_stored_image *image,
                                     struct lxi_str key,
                                     struct lxi_str *value,
                                     struct lxi_error **error);

// An alias of the image, sorted, with an index from 0.
//
// Owner: the texts belong to the image. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_stored_image_alias_at(const struct lxi_stored_image *image,
                                     size_t index,
                                     struct lxi_str *name,
                                     struct lxi_str *description,
                                     struct lxi_error **error);

// The image as the image object of LXD's REST API.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_stored_image_to_json(const struct lxi_stored_image *image,
                                    struct lxi_buffer **json,
                                    struct lxi_error **error);

// Frees what was known of an image; NULL is allowed. The image stays.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_stored_image_free(struct lxi_stored_image *image);

// How many images there are.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_image_list_len(const struct lxi_image_list *images, size_t *len, struct lxi_error **error);

// A copy of the image with an index from 0.
//
// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND for an index past
// the end.
lxi_status lxi_image_list_at(const struct lxi_image_list *images,
                             size_t index,
                             struct lxi_stored_image **image,
                             struct lxi_error **error);

// Frees a list; NULL is allowed.
//
// Threads: any, the list being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_image_list_free(struct lxi_image_list *images);

// Brings an image in, one file with `second` NULL, or metadata and rootfs in either order: its bytes are copied into
// the store's own file system, hashed and verified, and become visible with all that `options` say in one step. A
// cached image that is imported on purpose becomes a published one. `options` and `image` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_stored_image_free`. Threads: any. Errors: LXI_ALREADY_EXISTS for
// an image that is there, or an alias that is taken; LXI_MISMATCH for another fingerprint than the expected one;
// those of verifying an image; LXI_INVALID_INPUT for an alias or a file name that is none, or an architecture that is
// not known; LXI_BUSY; LXI_CANCELLED; LXI_IO. The store is as it was.
lxi_status lxi_store_import(const struct lxi_store *store,
                            const struct lxi_input *first,
                            const struct lxi_input *second,
                            const struct lxi_import_options *options,
                            struct lxi_stored_image **image,
                            struct lxi_error **error);

// Packs a root file system and imports the image in one step: what a container manager does with a stopped instance.
// `options`, `image` and `written` may be NULL.
//
// Owner: the caller, who frees the results with `lxi_stored_image_free` and `lxi_written_free`. Threads: any. Errors:
// those of `lxi_pack_to` and of `lxi_store_import`; the store is as it was.
lxi_status lxi_store_publish(const struct lxi_store *store,
                             const struct lxi_pack_options *packing,
                             const struct lxi_import_options *options,
                             struct lxi_stored_image **image,
                             struct lxi_written **written,
                             struct lxi_error **error);

// Changes an image, if it still is as `edit` says. `image`, which gets the image as it is then, may be NULL.
//
// Owner: the caller, who frees the result with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND;
// LXI_MISMATCH when somebody else changed it in between; LXI_INVALID_INPUT; LXI_BUSY; LXI_IO. Nothing has changed
// then.
lxi_status lxi_store_edit(const struct lxi_store *store,
                          const struct lxi_fingerprint *fingerprint,
                          const struct lxi_edit *edit,
                          struct lxi_stored_image **image,
                          struct lxi_error **error);

// All aliases, sorted by name; of a name that a container's and a virtual machine's image share the container's comes
// first.
//
// Owner: the caller, who frees the list with `lxi_alias_list_free`. Threads: any. Errors: LXI_MALFORMED when the
// catalog is damaged, LXI_IO.
lxi_status lxi_store_aliases(const struct lxi_store *store, struct lxi_alias_list **aliases, struct lxi_error **error);

// What one alias points to: a list with that one. Where a container's and a virtual machine's image share the name,
// the container's.
//
// Owner: the caller, who frees the list with `lxi_alias_list_free`. Threads: any. Errors: LXI_NOT_FOUND, LXI_MALFORMED
// when the catalog is damaged, LXI_IO.
lxi_status lxi_store_alias(const struct lxi_store *store,
                           struct lxi_str name,
                           struct lxi_alias_list **aliases,
                           struct lxi_error **error);

// What one alias of images of a type points to: a list with that one. `image_type` is LXI_TYPE_…, or 0 for what
// `lxi_store_alias` gives.
//
// Owner: the caller, who frees the list with `lxi_alias_list_free`. Threads: any. Errors: LXI_NOT_FOUND,
// LXI_INVALID_INPUT for an unknown type, LXI_MALFORMED when the catalog is damaged, LXI_IO.
lxi_status lxi_store_alias_of_type(const struct lxi_store *store,
                                   struct lxi_str name,
                                   lxi_image_type image_type,
                                   struct lxi_alias_list **aliases,
                                   struct lxi_error **error);

// How many aliases there are.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_alias_list_len(const struct lxi_alias_list *aliases, size_t *len, struct lxi_error **error);

// The alias with an index from 0, and what it points to (`target` may be NULL).
//
// Owner: the texts belong to the list. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_alias_list_at(const struct lxi_alias_list *aliases,
                             size_t index,
                             struct lxi_alias *alias,
                             struct lxi_fingerprint *target,
                             struct lxi_error **error);

// The type of the images that the alias with an index from 0 is for: LXI_TYPE_….
//
// Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_alias_list_type_at(const struct lxi_alias_list *aliases,
                                  size_t index,
                                  lxi_image_type *image_type,
                                  struct lxi_error **error);

// Frees a list; NULL is allowed.
//
// Threads: any, the list being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_alias_list_free(struct lxi_alias_list *aliases);

// Makes an alias for images of the target's type: a container's and a virtual machine's image may share a name.
//
// Threads: any. Errors: LXI_INVALID_INPUT for an invalid name, LXI_ALREADY_EXISTS when it is taken,
// LXI_NOT_FOUND without the image, LXI_BUSY, LXI_IO.
lxi_status lxi_store_create_alias(const struct lxi_store *store,
                                  struct lxi_alias alias,
                                  const struct lxi_fingerprint *target,
                                  struct lxi_error **error);

// Points an alias of images of the target's type to another image, and sets its description, whether or not the alias
// exists.
//
// Threads: any. Errors: LXI_INVALID_INPUT for an invalid name, LXI_NOT_FOUND without the image, LXI_BUSY,
// LXI_IO.
lxi_status lxi_store_move_alias(const struct lxi_store *store,
                                struct lxi_alias alias,
                                const struct lxi_fingerprint *target,
                                struct lxi_error **error);

// Gives an alias another name: the container's, where a container's and a virtual machine's image share it.
//
// Threads: any. Errors: LXI_INVALID_INPUT for an invalid name, LXI_NOT_FOUND without the alias,
// LXI_ALREADY_EXISTS when the new name is taken, LXI_BUSY, LXI_IO.
lxi_status lxi_store_rename_alias(const struct lxi_store *store,
                                  struct lxi_str name,
                                  struct lxi_str new_name,
                                  struct lxi_error **error);

// Gives an alias of images of a type another name. `image_type` is LXI_TYPE_…, or 0 for what `lxi_store_rename_alias`
// renames.
//
// Threads: any. Errors: as `lxi_store_rename_alias`; LXI_INVALID_INPUT for an unknown type.
lxi_status lxi_store_rename_alias_of_type(const struct lxi_store *store,
                                          struct lxi_str name,
                                          struct lxi_str new_name,
                                          lxi_image_type image_type,
                                          struct lxi_error **error);

// Removes an alias: the container's, where a container's and a virtual machine's image share it. The image stays.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_BUSY, LXI_IO.
lxi_status lxi_store_delete_alias(const struct lxi_store *store, struct lxi_str name, struct lxi_error **error);

// Removes an alias of images of a type. `image_type` is LXI_TYPE_…, or 0 for what `lxi_store_delete_alias` removes.
// The image stays.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_INVALID_INPUT for an unknown type, LXI_BUSY, LXI_IO.
lxi_status lxi_store_delete_alias_of_type(const struct lxi_store *store,
                                          struct lxi_str name,
                                          lxi_image_type image_type,
                                          struct lxi_error **error);

// Writes an image's files to `target`, compared with the fingerprint. Into a directory they go under the name they
// came with, or their fingerprint's: one file, or metadata as `meta-NAME` and rootfs. Any other target is a name: the
// image, or the metadata, gets it with its own ending, a rootfs with `.root`. `monitor` and `exported` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_exported_free`. Threads: any. Errors: LXI_NOT_FOUND;
// LXI_ALREADY_EXISTS for a file that is there; LXI_MISMATCH when the store's bytes are no longer the image;
// LXI_CANCELLED; LXI_IO. No part of the image is left then.
lxi_status lxi_store_export(const struct lxi_store *store,
                            const struct lxi_fingerprint *fingerprint,
                            struct lxi_str target,
                            const struct lxi_monitor *monitor,
                            struct lxi_exported **exported,
                            struct lxi_error **error);

// Writes a unified image to `write`, which gets `user`; both are used during the call only. `monitor` and `bytes`,
// which gets the image's size, may be NULL.
//
// Threads: any; `write` is called on the caller's. Errors: LXI_NOT_FOUND; LXI_INVALID_INPUT for a split image, which
// is two streams; LXI_MISMATCH when the store's bytes turn out not to be the image, after they were written; what
// `write` returns; LXI_CANCELLED; LXI_IO.
lxi_status lxi_store_export_to(const struct lxi_store *store,
                               const struct lxi_fingerprint *fingerprint,
                               lxi_write_fn write,
                               void *user,
                               const struct lxi_monitor *monitor,
                               uint64_t *bytes,
                               struct lxi_error **error);

// A file of the image, with an index from 0: the image, or its metadata and its rootfs.
//
// Owner: the path belongs to `exported`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_exported_file_at(const struct lxi_exported *exported,
                                size_t index,
                                struct lxi_str *path,
                                struct lxi_error **error);

// Frees the result of an export; NULL is allowed. The files stay.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_exported_free(struct lxi_exported *exported);

// Removes the cached images that `options`, which may be NULL, name. `count` gets how many that are, `bytes` the
// bytes of their files; they and `pruned` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_pruned_free`. Threads: any. Errors: LXI_MALFORMED when the
// catalog is damaged or the blobs are not there, LXI_BUSY, LXI_IO. What was removed before stays so.
lxi_status lxi_store_prune(const struct lxi_store *store,
                           const struct lxi_prune_options *options,
                           struct lxi_pruned **pruned,
                           size_t *count,
                           uint64_t *bytes,
                           struct lxi_error **error);

// An image that was removed, or would be, with an index from 0, and why (`reason` may be NULL).
//
// Owner: the caller, who frees the image with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND past the
// last one.
lxi_status lxi_pruned_at(const struct lxi_pruned *pruned,
                         size_t index,
                         struct lxi_stored_image **image,
                         lxi_removed *reason,
                         struct lxi_error **error);

// Frees the result of pruning; NULL is allowed.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_pruned_free(struct lxi_pruned *pruned);

// Hashes every image, compares catalog and files, and sweeps leftovers. `options` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_check_report_free`. Threads: any. Errors: LXI_MALFORMED when the
// blobs are not those of this store, LXI_CANCELLED, LXI_BUSY, LXI_IO. What is damaged is no error but a finding.
lxi_status lxi_store_check(const struct lxi_store *store,
                           const struct lxi_check_options *options,
                           struct lxi_check_report **report,
                           struct lxi_error **error);

// Checks the store at `path` and repairs what it can, the catalog included: one that is damaged or missing is rebuilt
// anew from the images. No other process may use the store meanwhile. `open_options` and `check_options` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_check_report_free`. Threads: any. Errors: LXI_NOT_FOUND without a
// store, LXI_MALFORMED when the blobs are not those of this store, LXI_UNSUPPORTED for a newer layout, LXI_CANCELLED,
// LXI_IO.
lxi_status lxi_store_repair(struct lxi_str path,
                            const struct lxi_store_options *open_options,
                            const struct lxi_check_options *check_options,
                            struct lxi_check_report **report,
                            struct lxi_error **error);

// Fills `info` with what a check found.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_check_report_get(const struct lxi_check_report *report,
                                struct lxi_check_info *info,
                                struct lxi_error **error);

// Fills `finding` with something that is not as it must be, with an index from 0.
//
// Owner: the text belongs to the report. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_check_report_finding_at(const struct lxi_check_report *report,
                                       size_t index,
                                       struct lxi_finding *finding,
                                       struct lxi_error **error);

// Fills `finding` with one of those that a repair left as they are, with an index from 0, and `reason` with why.
//
// Owner: the texts belong to the report. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_check_report_unrepaired_at(const struct lxi_check_report *report,
                                          size_t index,
                                          struct lxi_finding *finding,
                                          struct lxi_str *reason,
                                          struct lxi_error **error);

// Frees a report; NULL is allowed.
//
// Threads: any, the report being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_check_report_free(struct lxi_check_report *report);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LXD_IMAGE_H */
