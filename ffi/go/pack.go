package lxdimage

// #include "callbacks.h"
import "C"

import (
	"context"
	"io"
	"time"
)

// RootfsFormat is what the rootfs of a split container image is written as.
type RootfsFormat uint32

// The formats of a rootfs file.
const (
	// RootfsDefault is whichever is usual: tar when packing, the source's own when converting.
	RootfsDefault RootfsFormat = C.LXI_ROOTFS_DEFAULT
	// RootfsTar is a tar archive, compressed as a whole.
	RootfsTar RootfsFormat = C.LXI_ROOTFS_TAR
	// RootfsSquashFS is a SquashFS.
	RootfsSquashFS RootfsFormat = C.LXI_ROOTFS_SQUASHFS
)

// PackOptions say what is packed and how: a root file system (Tree or Disk) and the metadata (Metadata or MetadataYAML).
type PackOptions struct {
	// Tree is the directory whose content becomes the root file system.
	Tree string
	// Disk is the disk of a virtual machine, instead of a tree. It becomes qcow2, unless it is.
	Disk *Input
	// DiskInput is the format of the disk: raw, qcow2, vmdk, ova, vhd or vhdx; empty to recognise it, and raw never is.
	DiskInput string
	// DiskCompression is how the clusters of the disk are compressed: zlib, zstd or none, optionally with :LEVEL. Empty: a qcow2 disk stays as it is,
	// and another one gets zlib.
	DiskCompression string
	// Metadata describes the image.
	Metadata *Metadata
	// MetadataYAML are the bytes of a metadata.yaml, which go into the image as they are, instead of Metadata.
	MetadataYAML []byte
	// Templates is the directory whose files become templates/.
	Templates string
	// Compression is a codec with or without a level, such as zstd:19, xz or none; empty for zstd.
	Compression string
	// Form is one file, which is usual, or two.
	Form Form
	// RootfsFormat is what the rootfs of a split image is.
	RootfsFormat RootfsFormat
	// AllXattrs takes trusted.* and every security.* attribute too, not only file capabilities.
	AllXattrs bool
	// NewestModTime, unless zero: modification times after this one become it.
	NewestModTime time.Time
	// Threads is how many threads compress, at most; 0 for all cores. The bytes don't depend on it.
	Threads uint32
	// Limits hold for metadata, templates and disks.
	Limits *Limits
}

// ConvertOptions say how an image is converted. Nil, or the zero value: to what it is.
type ConvertOptions struct {
	// Form is one file, or two.
	Form Form
	// RootfsFormat is what the rootfs of a split container image becomes.
	RootfsFormat RootfsFormat
	// Compression is a codec with or without a level, such as zstd:19; empty: as it is.
	Compression string
	// DiskFormat is qcow2 to write the disk of a virtual machine anew, through temporary files; empty or keep: it stays as it is.
	DiskFormat string
	// DiskCompression is how the clusters of a disk that is written anew are compressed; empty for zlib.
	DiskCompression string
	// ExpectedFingerprint is the fingerprint that the source must have, or nil.
	ExpectedFingerprint *Fingerprint
	// Threads is how many threads work, at most; 0 for all cores. The bytes don't depend on it.
	Threads uint32
}

// Written is an image that was written.
type Written struct {
	// Fingerprint is the new image's.
	Fingerprint Fingerprint
	// Bytes is the size of all its files.
	Bytes uint64
	// Files are their paths, in the order in which they make the fingerprint. None when it went to a writer.
	Files []string
	// Omissions are members that no image can hold, and what else was left out or changed.
	Omissions Omissions
}

func toWritten(written *C.lxi_written, omissions Omissions) (*Written, error) {
	defer C.lxi_written_free(written)
	info := C.lxi_written_info{size: C.sizeof_lxi_written_info}
	var told *C.lxi_error
	if err := check(C.lxi_written_get(written, &info, &told), told); err != nil {
		return nil, err
	}
	found := &Written{Fingerprint: toFingerprint(&info.fingerprint), Bytes: uint64(info.bytes), Omissions: omissions}
	var words C.lxi_str
	for i := C.size_t(0); i < info.files; i++ {
		if err := check(C.lxi_written_file_at(written, i, &words, &told), told); err != nil {
			return nil, err
		}
		found.Files = append(found.Files, text(words))
	}
	return found, nil
}

// packOptions makes arguments; what they borrow is given back by the returned function.
func (c *call) packOptions(options *PackOptions) (*C.lxi_pack_options, func(), error) {
	given := one[C.lxi_pack_options](&c.arena)
	given.size = C.sizeof_lxi_pack_options
	given.monitor = c.monitor
	given.tree = c.str(options.Tree)
	given.metadata_yaml = c.arena.bytes(options.MetadataYAML)
	given.templates = c.str(options.Templates)
	given.compression = c.str(options.Compression)
	given.form = C.lxi_form(options.Form)
	given.rootfs_format = C.lxi_rootfs_format(options.RootfsFormat)
	given.threads = C.uint32_t(options.Threads)
	given.disk_input = c.str(options.DiskInput)
	given.disk_compression = c.str(options.DiskCompression)
	if options.AllXattrs {
		given.flags |= C.LXI_PACK_ALL_XATTRS
	}
	if !options.NewestModTime.IsZero() {
		given.flags |= C.LXI_PACK_NEWEST_MTIME
		given.newest_mtime = C.int64_t(options.NewestModTime.Unix())
	}
	metadata, metadataDone, err := options.Metadata.borrow()
	if err != nil {
		return nil, nil, err
	}
	given.metadata = metadata
	limits, limitsDone, err := options.Limits.borrow()
	if err != nil {
		metadataDone()
		return nil, nil, err
	}
	given.limits = limits
	closing := func() {}
	if options.Disk != nil {
		given.disk, closing, err = c.input(*options.Disk)
		if err != nil {
			metadataDone()
			limitsDone()
			return nil, nil, err
		}
	}
	return given, func() {
		closing()
		limitsDone()
		metadataDone()
	}, nil
}

// packed makes one of the calls that pack.
func packed(ctx context.Context, options PackOptions, pack func(*call, *C.lxi_pack_options, **C.lxi_written, **C.lxi_error) C.lxi_status) (*Written, error) {
	c := begin(ctx)
	defer c.end()
	given, done, err := c.packOptions(&options)
	if err != nil {
		return nil, err
	}
	defer done()
	var written *C.lxi_written
	var told *C.lxi_error
	status := pack(c, given, &written, &told)
	if err := c.check(status, told); err != nil {
		return nil, err
	}
	return toWritten(written, c.omissions())
}

// Pack packs to the file out; a split image's rootfs goes to out with ".root" behind it. The same tree gives the same bytes.
//
// Errors: [ErrAlreadyExists] when a file of that name is there, [ErrUnsupported] for a disk that is no image's, [ErrMalformed] for the
// metadata, [ErrNotFound], [ErrIO], [ErrCancelled]. Whatever the error, nothing is left.
func Pack(ctx context.Context, out string, options PackOptions) (*Written, error) {
	return packed(ctx, options, func(c *call, given *C.lxi_pack_options, written **C.lxi_written, told **C.lxi_error) C.lxi_status {
		return C.lxi_pack(given, str(out), written, told)
	})
}

// PackMetadata packs the metadata file of a split image alone, with the templates, to the file out: for a rootfs that is there already. The options name
// no tree and no disk. The fingerprint is that of this file, not of an image. Errors: as [Pack]; [ErrInvalidInput] for options about a rootfs.
func PackMetadata(ctx context.Context, out string, options PackOptions) (*Written, error) {
	return packed(ctx, options, func(c *call, given *C.lxi_pack_options, written **C.lxi_written, told **C.lxi_error) C.lxi_status {
		return C.lxi_pack_metadata(given, str(out), written, told)
	})
}

// PackTo packs a unified image into a writer, which is used by one goroutine at a time and during the call only. Errors: as
// [Pack]; the writer's, in the chain; [ErrInvalidInput] when the options ask for a split image.
func PackTo(ctx context.Context, out io.Writer, options PackOptions) (*Written, error) {
	return packed(ctx, options, func(c *call, given *C.lxi_pack_options, written **C.lxi_written, told **C.lxi_error) C.lxi_status {
		return C.lxi_go_pack_to(given, c.sink(out), written, told)
	})
}

func (c *call) convertOptions(options *ConvertOptions) *C.lxi_convert_options {
	given := one[C.lxi_convert_options](&c.arena)
	given.size = C.sizeof_lxi_convert_options
	given.monitor = c.monitor
	if options != nil {
		given.form = C.lxi_form(options.Form)
		given.rootfs_format = C.lxi_rootfs_format(options.RootfsFormat)
		given.compression = c.str(options.Compression)
		given.disk_format = c.str(options.DiskFormat)
		given.disk_compression = c.str(options.DiskCompression)
		given.expected_fingerprint = c.fingerprint(options.ExpectedFingerprint)
		given.threads = C.uint32_t(options.Threads)
	}
	return given
}

// Convert writes the image to the file out in another form or codec, in one stream; a split image's rootfs goes to out with
// ".root" behind it.
//
// Errors: [ErrAlreadyExists] for the output; those of [Image.Verify] for the source, and the first rule that it breaks;
// [ErrMismatch]. Whatever the error, nothing is left.
func (i *Image) Convert(ctx context.Context, out string, options *ConvertOptions) (*Written, error) {
	c, image, end, err := i.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var written *C.lxi_written
	var told *C.lxi_error
	if err := c.check(C.lxi_image_convert(image, c.convertOptions(options), str(out), &written, &told), told); err != nil {
		return nil, err
	}
	return toWritten(written, c.omissions())
}

// ConvertTo writes the image to a writer, as a unified one. The writer is used by one goroutine at a time and during the call
// only. Errors: as [Image.Convert]; the writer's, in the chain; [ErrInvalidInput] when the options ask for a split image.
func (i *Image) ConvertTo(ctx context.Context, out io.Writer, options *ConvertOptions) (*Written, error) {
	c, image, end, err := i.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var written *C.lxi_written
	var told *C.lxi_error
	if err := c.check(C.lxi_go_convert_to(image, c.convertOptions(options), c.sink(out), &written, &told), told); err != nil {
		return nil, err
	}
	return toWritten(written, c.omissions())
}
