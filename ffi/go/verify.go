package lxdimage

// #include "callbacks.h"
import "C"

import (
	"context"
	"time"
	"unsafe"
)

// VerifyOptions say how an image is verified. Nil, or the zero value: on all cores.
type VerifyOptions struct {
	// Threads is how many threads decode, at most; 0 for all cores.
	Threads uint32
	// Contents makes [Image.Survey] show a digest of each regular file's content.
	Contents bool
}

// VerifyReport is what reading a whole image showed.
type VerifyReport struct {
	// Fingerprint is that of the bytes as stored. Compare it with the one that is expected.
	Fingerprint Fingerprint
	// Type is container or virtual machine.
	Type Type
	// Metadata is nil if it can't be read; what is wrong with it is among the findings.
	Metadata *Metadata
	// Disk is the disk of a virtual machine, or nil.
	Disk *Disk
	// Bytes is the size of all files of the image.
	Bytes uint64
	// How many there are of each in the root file system: Others are named pipes and sockets.
	Files, Directories, Symlinks, HardLinks, Devices, Others uint64
	// ContentBytes are the logical bytes of all regular files.
	ContentBytes uint64
	// Templates are the names in templates/, sorted.
	Templates []string
	// Strays are members at the archive's top that no image has.
	Strays []string
	// Findings are the rules that the image breaks, in the order of the archive. A sound image has none.
	Findings []*Error
	// Omissions are what an unpacking would leave out or change.
	Omissions Omissions
}

// Disk is what is known of a virtual machine's disk.
type Disk struct {
	// VirtualSize is the size that a machine sees, in bytes.
	VirtualSize uint64
	// Snapshots is the number of internal snapshots.
	Snapshots uint32
}

// EntryKind is what an entry is.
type EntryKind uint32

// The kinds of entries.
const (
	// EntryOther is something newer than this list.
	EntryOther EntryKind = C.LXI_ENTRY_OTHER
	// EntryFile is a regular file.
	EntryFile EntryKind = C.LXI_ENTRY_FILE
	// EntryDirectory is a directory.
	EntryDirectory EntryKind = C.LXI_ENTRY_DIRECTORY
	// EntrySymlink is a symbolic link.
	EntrySymlink EntryKind = C.LXI_ENTRY_SYMLINK
	// EntryHardLink is a further name of an entry that came earlier.
	EntryHardLink EntryKind = C.LXI_ENTRY_HARD_LINK
	// EntryCharDevice is a character device.
	EntryCharDevice EntryKind = C.LXI_ENTRY_CHAR_DEVICE
	// EntryBlockDevice is a block device.
	EntryBlockDevice EntryKind = C.LXI_ENTRY_BLOCK_DEVICE
	// EntryFIFO is a named pipe.
	EntryFIFO EntryKind = C.LXI_ENTRY_FIFO
	// EntrySocket is a Unix socket.
	EntrySocket EntryKind = C.LXI_ENTRY_SOCKET
)

// Entry is one member of the root file system.
type Entry struct {
	// Path is the path below the root: components joined by "/", no slash at either end; empty for the root itself. Any bytes.
	Path string
	// Target is where a symbolic link points, as it stands there, or the path of the entry that a hard link names.
	Target string
	// Kind is what it is.
	Kind EntryKind
	// Mode is the permission bits with setuid, setgid and sticky, as the file system has them.
	Mode uint32
	// UID and GID are owner and group.
	UID, GID uint32
	// Bytes is a file's logical size.
	Bytes uint64
	// ModTime is the time of the last change of content.
	ModTime time.Time
	// Major and Minor are a device's driver, and the device of that driver.
	Major, Minor uint32
	// Content is a digest of a file's content, equal for two files exactly when their contents are; nil unless
	// VerifyOptions.Contents asks for it. It is not the content's sha256.
	Content *[32]byte
	// Xattrs are the extended attributes, by their full names.
	Xattrs map[string][]byte
}

func toEntry(entry *C.lxi_entry) *Entry {
	found := &Entry{
		Path:    named(entry.path),
		Target:  named(entry.target),
		Kind:    EntryKind(entry.kind),
		Mode:    uint32(entry.mode),
		UID:     uint32(entry.uid),
		GID:     uint32(entry.gid),
		Bytes:   uint64(entry.bytes),
		ModTime: time.Unix(int64(entry.mtime), int64(entry.mtime_nanoseconds)).UTC(),
		Major:   uint32(entry.major),
		Minor:   uint32(entry.minor),
	}
	if entry.has_content {
		content := [32]byte(toFingerprint(&entry.content))
		found.Content = &content
	}
	if entry.xattrs_len > 0 {
		found.Xattrs = map[string][]byte{}
		for _, xattr := range unsafe.Slice(entry.xattrs, int(entry.xattrs_len)) {
			found.Xattrs[named(xattr.name)] = copied(xattr.value)
		}
	}
	return found
}

func (c *call) verifyOptions(options *VerifyOptions) *C.lxi_verify_options {
	given := one[C.lxi_verify_options](&c.arena)
	given.size = C.sizeof_lxi_verify_options
	given.monitor = c.monitor
	if options != nil {
		given.threads = C.uint32_t(options.Threads)
		if options.Contents {
			given.flags |= C.LXI_VERIFY_CONTENTS
		}
	}
	return given
}

// Verify reads and decodes all of the image and checks every member. Rules that single members break are findings of the
// result; damage to the archive itself is an error.
//
// Errors: [ErrMalformed], [ErrLimitExceeded], [ErrUnsupported] where reading can't go on, [ErrCancelled], [ErrIO].
func (i *Image) Verify(ctx context.Context, options *VerifyOptions) (*VerifyReport, error) {
	c, image, end, err := i.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var verification *C.lxi_verify_report
	var told *C.lxi_error
	if err := c.check(C.lxi_image_verify(image, c.verifyOptions(options), &verification, &told), told); err != nil {
		return nil, err
	}
	defer C.lxi_verify_report_free(verification)
	return toVerifyReport(verification, c.omissions())
}

// Survey is [Image.Verify], and shows every member of the root file system on the way. Members that break a rule are findings
// and not shown; the disk of a virtual machine is not one. An error of show ends it, and is in the chain of the error.
func (i *Image) Survey(ctx context.Context, options *VerifyOptions, show func(*Entry) error) (*VerifyReport, error) {
	c, image, end, err := i.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var verification *C.lxi_verify_report
	var told *C.lxi_error
	handle := c.pass(&viewer{failure: &c.failure, show: show})
	if err := c.check(C.lxi_go_survey(image, c.verifyOptions(options), handle, &verification, &told), told); err != nil {
		return nil, err
	}
	defer C.lxi_verify_report_free(verification)
	return toVerifyReport(verification, c.omissions())
}

func toVerifyReport(verification *C.lxi_verify_report, omissions Omissions) (*VerifyReport, error) {
	info := C.lxi_verify_info{size: C.sizeof_lxi_verify_info}
	var told *C.lxi_error
	if err := check(C.lxi_verify_report_get(verification, &info, &told), told); err != nil {
		return nil, err
	}
	found := &VerifyReport{
		Fingerprint:  toFingerprint(&info.fingerprint),
		Type:         Type(info.image_type),
		Bytes:        uint64(info.bytes),
		Files:        uint64(info.files),
		Directories:  uint64(info.directories),
		Symlinks:     uint64(info.symlinks),
		HardLinks:    uint64(info.hard_links),
		Devices:      uint64(info.devices),
		Others:       uint64(info.others),
		ContentBytes: uint64(info.content_bytes),
		Omissions:    omissions,
	}
	if info.has_disk {
		found.Disk = &Disk{uint64(info.disk_virtual_size), uint32(info.disk_snapshots)}
	}
	var name C.lxi_bytes
	for i := C.size_t(0); i < info.templates; i++ {
		if err := check(C.lxi_verify_report_template_at(verification, i, &name, &told), told); err != nil {
			return nil, err
		}
		found.Templates = append(found.Templates, named(name))
	}
	for i := C.size_t(0); i < info.strays; i++ {
		if err := check(C.lxi_verify_report_stray_at(verification, i, &name, &told), told); err != nil {
			return nil, err
		}
		found.Strays = append(found.Strays, named(name))
	}
	for i := C.size_t(0); i < info.findings; i++ {
		finding := C.lxi_error_info{size: C.sizeof_lxi_error_info}
		if err := check(C.lxi_verify_report_finding_at(verification, i, &finding, &told), told); err != nil {
			return nil, err
		}
		found.Findings = append(found.Findings, toError(&finding))
	}
	if info.has_metadata {
		var metadata *C.lxi_metadata
		if err := check(C.lxi_verify_report_metadata(verification, &metadata, &told), told); err != nil {
			return nil, err
		}
		found.Metadata = ownMetadata(metadata)
	}
	return found, nil
}

// Close frees the metadata. It never fails.
func (v *VerifyReport) Close() error {
	if v.Metadata == nil {
		return nil
	}
	return v.Metadata.Close()
}
