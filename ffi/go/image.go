package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"unsafe"
)

// Form is whether an image is one file or two.
type Form uint32

// The forms of images.
const (
	// FormDefault, as an option: whichever is usual.
	FormDefault Form = C.LXI_FORM_DEFAULT
	// FormUnified is one archive with metadata and rootfs.
	FormUnified Form = C.LXI_FORM_UNIFIED
	// FormSplit is a metadata archive and a rootfs file.
	FormSplit Form = C.LXI_FORM_SPLIT
)

// String is unified or split.
func (f Form) String() string {
	switch f {
	case FormUnified:
		return "unified"
	case FormSplit:
		return "split"
	}
	return "default"
}

// Type is whether an image is for a container or for a virtual machine.
type Type uint32

// The types of images.
const (
	// TypeContainer: the rootfs is a tree of files.
	TypeContainer Type = C.LXI_TYPE_CONTAINER
	// TypeVirtualMachine: the rootfs is a disk.
	TypeVirtualMachine Type = C.LXI_TYPE_VIRTUAL_MACHINE
)

// String is the type as LXD names it: container or virtual-machine.
func (t Type) String() string {
	switch t {
	case TypeContainer:
		return "container"
	case TypeVirtualMachine:
		return "virtual-machine"
	}
	return ""
}

// Image is one file or two that were recognised as an image. Its methods may run side by side; only of one that came from a
// [Reader] the content passes once, to whoever reads it first. It has a Close method.
type Image struct {
	handle  *handle
	streams []*stream
}

// ImageInfo is what is known of an image without reading it.
type ImageInfo struct {
	// Form is whether it is one file or two.
	Form Form
	// Bytes is the size of all files, or -1 if that is not known: of a stream.
	Bytes int64
	// Container is what the unified image or the metadata file is: tar or squashfs.
	Container string
	// Codec is how it is compressed as a whole: none, gzip, bzip2, xz, lzma, zstd, lz4; empty for a squashfs.
	Codec string
	// RootfsContainer is what the rootfs file of a split image is: tar, squashfs or qcow2; else empty.
	RootfsContainer string
	// RootfsCodec is how that is compressed as a whole; else empty.
	RootfsCodec string
}

// Open recognises an image. It looks at the first KiB of each file; of a split image whose files are both tars, at as much of
// each as tells which is the metadata. The limits, which may be nil, hold for all that is done with the image.
//
// Errors: [ErrMalformed] and [ErrUnsupported] for what is no image, [ErrAmbiguous] and [ErrInvalidInput] for two files that don't make
// one, [ErrFeatureDisabled] when a codec is compiled out, [ErrNotFound], [ErrIO].
func Open(source Source, limits *Limits) (*Image, error) {
	c := begin(context.Background())
	defer c.end()
	borrowed, done, err := limits.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	first, second, closing, err := c.source(source)
	if err != nil {
		return nil, err
	}
	defer closing()
	var image *C.lxi_image
	var told *C.lxi_error
	if err := c.check(C.lxi_image_open(first, second, borrowed, &image, &told), told); err != nil {
		return nil, err
	}
	return ownImage(image, c.streams), nil
}

func ownImage(image *C.lxi_image, streams []*stream) *Image {
	return &Image{own("image", unsafe.Pointer(image), func() { C.lxi_image_free(image) }), streams}
}

// begin begins a call about the image.
func (i *Image) begin(ctx context.Context) (*call, *C.lxi_image, func(), error) {
	ptr, err := i.handle.acquire()
	if err != nil {
		return nil, nil, nil, err
	}
	c := begin(ctx)
	c.streams = i.streams
	return c, (*C.lxi_image)(ptr), func() {
		defer i.handle.release()
		c.end()
	}, nil
}

// Info is what is known of the image without reading it.
func (i *Image) Info() (*ImageInfo, error) {
	c, image, end, err := i.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	info := C.lxi_image_info{size: C.sizeof_lxi_image_info}
	var told *C.lxi_error
	if err := c.check(C.lxi_image_get(image, &info, &told), told); err != nil {
		return nil, err
	}
	found := &ImageInfo{
		Form:            Form(info.form),
		Bytes:           -1,
		Container:       text(info.container),
		Codec:           text(info.codec),
		RootfsContainer: text(info.rootfs_container),
		RootfsCodec:     text(info.rootfs_codec),
	}
	if info.has_bytes {
		found.Bytes = int64(info.bytes)
	}
	return found, nil
}

// Metadata reads up to metadata.yaml and no further. Errors: [ErrMalformed] when there is none or it breaks a rule,
// [ErrLimitExceeded], [ErrIO].
func (i *Image) Metadata() (*Metadata, error) {
	c, image, end, err := i.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	var metadata *C.lxi_metadata
	var told *C.lxi_error
	if err := c.check(C.lxi_image_metadata(image, &metadata, &told), told); err != nil {
		return nil, err
	}
	return ownMetadata(metadata), nil
}

// MetadataBytes are the bytes of metadata.yaml as they stand in the archive. Errors: as [Image.Metadata], but for the content.
func (i *Image) MetadataBytes() ([]byte, error) {
	c, image, end, err := i.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	var yaml *C.lxi_buffer
	var told *C.lxi_error
	if err := c.check(C.lxi_image_metadata_bytes(image, &yaml, &told), told); err != nil {
		return nil, err
	}
	return taken(yaml)
}

// Template are the bytes of a template, by its name in templates/. Errors: [ErrNotFound], [ErrLimitExceeded], [ErrMalformed], [ErrIO].
func (i *Image) Template(name string) ([]byte, error) {
	c, image, end, err := i.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	var source *C.lxi_buffer
	var told *C.lxi_error
	if err := c.check(C.lxi_image_template(image, str(name), &source, &told), told); err != nil {
		return nil, err
	}
	return taken(source)
}

// Fingerprint reads the files' bytes as stored. Unpacking and verifying compute it anyway. Errors: [ErrCancelled], [ErrIO];
// [ErrInvalidInput] for a stream that was read before.
func (i *Image) Fingerprint(ctx context.Context) (Fingerprint, error) {
	c, image, end, err := i.begin(ctx)
	if err != nil {
		return Fingerprint{}, err
	}
	defer end()
	var found C.lxi_fingerprint
	var told *C.lxi_error
	if err := c.check(C.lxi_image_fingerprint(image, c.monitor, &found, &told), told); err != nil {
		return Fingerprint{}, err
	}
	return toFingerprint(&found), nil
}

// Close frees the image, when calls that are under way have ended. It never fails.
func (i *Image) Close() error {
	i.handle.close()
	return nil
}
