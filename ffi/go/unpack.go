package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"unsafe"
)

// IDRange is a run of owners: Count numbers from Inside (the image) become those from Outside (the host).
type IDRange struct {
	Inside, Outside, Count uint32
}

func (a *arena) idMap(ranges []IDRange) (*C.lxi_id_range, C.size_t) {
	first, all := many[C.lxi_id_range](a, len(ranges))
	for i, r := range ranges {
		all[i] = C.lxi_id_range{inside: C.uint32_t(r.Inside), outside: C.uint32_t(r.Outside), count: C.uint32_t(r.Count)}
	}
	return first, C.size_t(len(ranges))
}

// UnpackOptions say how an image is unpacked. Nil, or the zero value: everything as the image says, on all cores.
type UnpackOptions struct {
	// RootfsOnly writes the root file system itself to the destination, without metadata and templates.
	RootfsOnly bool
	// SkipDevices makes no device nodes, even where they could be made.
	SkipDevices bool
	// AllXattrs sets trusted.* and every security.* attribute too, not only file capabilities.
	AllXattrs bool
	// Durable waits until everything is on the disk before it becomes visible.
	Durable bool
	// Threads is how many threads decode and write, at most; 0 for all cores.
	Threads uint32
	// IDMap says how owners and groups are shifted; none: not at all.
	IDMap []IDRange
	// DiskFormat is what the disk of a virtual machine is written as: raw, which is sparse, or qcow2; empty or keep: as it is. Refused for a container
	// but with DiskIfAny.
	DiskFormat string
	// DiskIfAny unpacks an image without a disk all the same.
	DiskIfAny bool
}

func (c *call) unpackOptions(options *UnpackOptions) *C.lxi_unpack_options {
	given := one[C.lxi_unpack_options](&c.arena)
	given.size = C.sizeof_lxi_unpack_options
	given.monitor = c.monitor
	if options == nil {
		return given
	}
	given.threads = C.uint32_t(options.Threads)
	given.id_map, given.id_map_len = c.idMap(options.IDMap)
	given.flags = flags(
		flag{options.RootfsOnly, C.LXI_UNPACK_ROOTFS_ONLY},
		flag{options.SkipDevices, C.LXI_UNPACK_SKIP_DEVICES},
		flag{options.AllXattrs, C.LXI_UNPACK_ALL_XATTRS},
		flag{options.Durable, C.LXI_UNPACK_DURABLE},
		flag{options.DiskIfAny, C.LXI_UNPACK_DISK_IF_ANY},
	)
	given.disk_format = c.str(options.DiskFormat)
	return given
}

// Unpacked is what an unpacking left.
type Unpacked struct {
	// Path is where it is; empty while it is staged.
	Path string
	// Fingerprint is that of the bytes that were unpacked.
	Fingerprint Fingerprint
	// Type is container or virtual machine.
	Type Type
	// Complete says whether everything in the image was written as it stands there.
	Complete bool
	// Entries is how many entries were written.
	Entries uint64
	// Bytes is how many bytes of file content were written.
	Bytes uint64
	// Omissions are what was left out; none while it is complete.
	Omissions Omissions
	// Metadata is the image's; nil while it is staged.
	Metadata *Metadata
}

// Close frees the metadata. The files stay. It never fails.
func (u *Unpacked) Close() error {
	if u.Metadata == nil {
		return nil
	}
	return u.Metadata.Close()
}

func fromUnpackedInfo(info *C.lxi_unpacked_info) *Unpacked {
	return &Unpacked{
		Path:        text(info.path),
		Fingerprint: toFingerprint(&info.fingerprint),
		Type:        Type(info.image_type),
		Complete:    bool(info.complete),
		Entries:     uint64(info.entries),
		Bytes:       uint64(info.bytes),
	}
}

func toUnpacked(unpacked *C.lxi_unpacked, omissions Omissions) (*Unpacked, error) {
	defer C.lxi_unpacked_free(unpacked)
	info := C.lxi_unpacked_info{size: C.sizeof_lxi_unpacked_info}
	var told *C.lxi_error
	if err := check(C.lxi_unpacked_get(unpacked, &info, &told), told); err != nil {
		return nil, err
	}
	found := fromUnpackedInfo(&info)
	found.Omissions = omissions
	var metadata *C.lxi_metadata
	if err := check(C.lxi_unpacked_metadata(unpacked, &metadata, &told), told); err != nil {
		return nil, err
	}
	found.Metadata = ownMetadata(metadata)
	return found, nil
}

// Unpack unpacks to destination in one pass, hashed, decoded, checked and written at the same time: nothing is visible there
// unless the fingerprint is the expected one and every rule holds. The destination must not exist, or be an empty directory.
//
// Errors: [ErrMismatch] with both values; [ErrAlreadyExists] or [ErrUnsafePath] for the destination; for the image [ErrMalformed],
// [ErrUnsafePath], [ErrUnsupported], [ErrLimitExceeded]; [ErrCancelled]; [ErrIO]. Whatever the error, nothing is left.
func (i *Image) Unpack(ctx context.Context, destination string, expected Fingerprint, options *UnpackOptions) (*Unpacked, error) {
	return i.unpack(ctx, destination, &expected, options)
}

// UnpackUnverified unpacks to destination whatever the fingerprint is, for images whose origin is trusted. Errors: as
// [Image.Unpack], but for [ErrMismatch].
func (i *Image) UnpackUnverified(ctx context.Context, destination string, options *UnpackOptions) (*Unpacked, error) {
	return i.unpack(ctx, destination, nil, options)
}

func (i *Image) unpack(ctx context.Context, destination string, expected *Fingerprint, options *UnpackOptions) (*Unpacked, error) {
	c, image, end, err := i.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	given := c.unpackOptions(options)
	var unpacked *C.lxi_unpacked
	var told *C.lxi_error
	var status C.lxi_status
	if expected != nil {
		wanted := c.fingerprint(expected)
		status = C.lxi_image_unpack_verified(image, str(destination), wanted, given, &unpacked, &told)
	} else {
		status = C.lxi_image_unpack_unverified(image, str(destination), given, &unpacked, &told)
	}
	if err := c.check(status, told); err != nil {
		return nil, err
	}
	return toUnpacked(unpacked, c.omissions())
}

// Staged is an unpacked image in a private directory beside its destination. It must be verified or accepted before it can
// be committed; closing it before removes everything. It has a Close method.
type Staged struct {
	handle    *handle
	omissions Omissions
}

// Stage unpacks into a private directory beside destination, which must not exist, or be an empty directory, and stays as
// it is until [Staged.Commit]. Errors: as [Image.Unpack], but for [ErrMismatch]. Whatever the error, nothing is left.
func (i *Image) Stage(ctx context.Context, destination string, options *UnpackOptions) (*Staged, error) {
	c, image, end, err := i.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var staged *C.lxi_staged
	var told *C.lxi_error
	if err := c.check(C.lxi_image_stage(image, str(destination), c.unpackOptions(options), &staged, &told), told); err != nil {
		return nil, err
	}
	return &Staged{own("staged image", unsafe.Pointer(staged), func() { C.lxi_staged_free(staged) }), c.omissions()}, nil
}

// Info is what was unpacked. Errors: [ErrInvalidInput] when there is nothing any more.
func (s *Staged) Info() (*Unpacked, error) {
	ptr, done, err := s.handle.read()
	if err != nil {
		return nil, err
	}
	defer done()
	info := C.lxi_unpacked_info{size: C.sizeof_lxi_unpacked_info}
	var told *C.lxi_error
	if err := check(C.lxi_staged_get((*C.lxi_staged)(ptr), &info, &told), told); err != nil {
		return nil, err
	}
	found := fromUnpackedInfo(&info)
	found.Omissions = s.omissions
	return found, nil
}

// Verify compares the fingerprint. On a mismatch everything is removed. Errors: [ErrMismatch] with both values;
// [ErrInvalidInput] when it was verified or accepted before, or there is nothing any more.
func (s *Staged) Verify(expected Fingerprint) error {
	ptr, done, err := s.handle.write()
	if err != nil {
		return err
	}
	defer done()
	wanted := expected.c()
	var told *C.lxi_error
	return check(C.lxi_staged_verify((*C.lxi_staged)(ptr), &wanted, &told), told)
}

// AcceptUnverified takes the image as it is: its origin is trusted, or nobody knows its fingerprint. Errors:
// [ErrInvalidInput] when it was verified or accepted before, or there is nothing any more.
func (s *Staged) AcceptUnverified() error {
	ptr, done, err := s.handle.write()
	if err != nil {
		return err
	}
	defer done()
	var told *C.lxi_error
	return check(C.lxi_staged_accept_unverified((*C.lxi_staged)(ptr), &told), told)
}

// Commit gives the directory its name beside where it was staged, in one step: a plain name, that of the destination or
// another one. After an error it is staged as before, and can be committed under another name.
//
// Errors: [ErrAlreadyExists] when something other than an empty directory has that name; [ErrInvalidInput] for a name with a
// slash, and when it was not verified or accepted; [ErrIO].
func (s *Staged) Commit(name string) (*Unpacked, error) {
	ptr, done, err := s.handle.write()
	if err != nil {
		return nil, err
	}
	defer done()
	var unpacked *C.lxi_unpacked
	var told *C.lxi_error
	if err := check(C.lxi_staged_commit((*C.lxi_staged)(ptr), str(name), &unpacked, &told), told); err != nil {
		return nil, err
	}
	return toUnpacked(unpacked, s.omissions)
}

// Discard removes everything, and says so if that fails. Errors: [ErrInvalidInput] when there is nothing any more, [ErrIO].
func (s *Staged) Discard() error {
	ptr, done, err := s.handle.write()
	if err != nil {
		return err
	}
	defer done()
	var told *C.lxi_error
	return check(C.lxi_staged_discard((*C.lxi_staged)(ptr), &told), told)
}

// Close frees it, and removes it from the disk unless it was committed. It never fails.
func (s *Staged) Close() error {
	s.handle.close()
	return nil
}
