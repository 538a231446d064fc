package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"io"
	"unsafe"
)

// DiskImage is a disk image: qcow2, VMDK, OVA, VHD, VHDX or raw. As an [io.ReaderAt] it is what the virtual machine sees, for any number of goroutines. It
// has a Close method.
//
// A disk that needs another file (a backing file, external data, a parent, further parts) is refused with [ErrUnsupported], whose message names the
// file: nothing but the one file is ever opened.
type DiskImage struct {
	handle *handle
	info   DiskInfo
}

// DiskOptions say how a disk is opened. Nil, or the zero value: its format is recognised, and raw never is.
type DiskOptions struct {
	// Format is what it must be: raw, qcow2, vmdk, ova, vhd or vhdx; empty to recognise it.
	Format string
	// Directory is where a disk in a compressed file is decoded to; empty for the directory of temporary files.
	Directory string
	// Threads is how many decode a compressed file, at most; 0 for all cores.
	Threads uint32
	// Limits hold for tables and sizes.
	Limits *Limits
}

// DiskInfo is what a disk is.
type DiskInfo struct {
	// Format is the file's: raw, qcow2, vmdk, ova, vhd or vhdx.
	Format string
	// DiskFormat is that of the disk in an OVA; otherwise that of the file.
	DiskFormat string
	// Variant is the kind within the format, for people: "version 3, zstd". Empty for a raw disk.
	Variant string
	// VirtualSize is what the virtual machine sees, in bytes.
	VirtualSize uint64
	// ClusterSize is how many bytes one entry of the format's tables stands for; 0 for a raw disk and a fixed VHD.
	ClusterSize uint64
}

// OpenDisk opens a disk image, also one in a compressed file, which is decoded to a temporary file.
//
// Errors: [ErrUnsupported] for what needs another file, for encryption, for unknown features, and for content without a magic number that the options
// don't call raw; [ErrMalformed]; [ErrInvalidInput] for another format than the one that is asked for, and for a [Reader]; [ErrLimitExceeded];
// [ErrCancelled]; [ErrIO].
func OpenDisk(ctx context.Context, input Input, options *DiskOptions) (*DiskImage, error) {
	c := begin(ctx)
	defer c.end()
	given := one[C.lxi_disk_options](&c.arena)
	given.size = C.sizeof_lxi_disk_options
	given.monitor = c.monitor
	if options != nil {
		limits, done, err := options.Limits.borrow()
		if err != nil {
			return nil, err
		}
		defer done()
		given.limits = limits
		given.format = c.str(options.Format)
		given.directory = c.str(options.Directory)
		given.threads = C.uint32_t(options.Threads)
	}
	from, closing, err := c.input(input)
	if err != nil {
		return nil, err
	}
	defer closing()
	var disk *C.lxi_disk
	var told *C.lxi_error
	if err := c.check(C.lxi_disk_open(from, given, &disk, &told), told); err != nil {
		return nil, err
	}
	info := C.lxi_disk_info{size: C.sizeof_lxi_disk_info}
	found := &DiskImage{handle: own("disk", unsafe.Pointer(disk), func() { C.lxi_disk_free(disk) })}
	if err := check(C.lxi_disk_get(disk, &info, &told), told); err != nil {
		found.handle.close()
		return nil, err
	}
	found.info = DiskInfo{text(info.format), text(info.disk_format), text(info.variant), uint64(info.virtual_size), uint64(info.cluster_size)}
	return found, nil
}

// Info is what the disk is.
func (d *DiskImage) Info() DiskInfo {
	return d.info
}

// use makes a call with the disk.
func (d *DiskImage) use(ctx context.Context, work func(*call, *C.lxi_disk) error) error {
	ptr, err := d.handle.acquire()
	if err != nil {
		return err
	}
	defer d.handle.release()
	c := begin(ctx)
	defer c.end()
	return work(c, (*C.lxi_disk)(ptr))
}

// Allocated is how many bytes are not known to be zeros: what a sparse raw file of it takes at most. Reads and checks all tables, and no data. Errors:
// [ErrMalformed] for tables that overlap; [ErrLimitExceeded]; [ErrCancelled]; [ErrIO].
func (d *DiskImage) Allocated(ctx context.Context) (uint64, error) {
	var bytes C.uint64_t
	err := d.use(ctx, func(c *call, disk *C.lxi_disk) error {
		var told *C.lxi_error
		return c.check(C.lxi_disk_allocated(disk, c.monitor, &bytes, &told), told)
	})
	return uint64(bytes), err
}

// ReadAt reads what the virtual machine sees from offset on. Fewer bytes than asked for come only at the end of the disk, with [io.EOF]. Errors:
// [ErrInvalidInput] for a negative offset; [ErrMalformed] for a part of the disk that can't be decoded; [ErrIO].
func (d *DiskImage) ReadAt(buffer []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, kindError(ErrInvalidInput, "the offset is negative", nil)
	}
	if len(buffer) == 0 {
		return 0, nil
	}
	ptr, err := d.handle.acquire()
	if err != nil {
		return 0, err
	}
	defer d.handle.release()
	var got C.size_t
	var told *C.lxi_error
	status := C.lxi_disk_read_at((*C.lxi_disk)(ptr), C.uint64_t(offset), (*C.uint8_t)(unsafe.Pointer(&buffer[0])), C.size_t(len(buffer)), &got, &told)
	if err := check(status, told); err != nil {
		return 0, err
	}
	if int(got) < len(buffer) {
		return int(got), io.EOF
	}
	return int(got), nil
}

// DiskWriteOptions say how a disk is written. Nil, or the zero value: as qcow2 to a new file, its clusters compressed with zlib.
type DiskWriteOptions struct {
	// Format is qcow2 or raw; empty for qcow2.
	Format string
	// Compression is how the clusters of a qcow2 disk are compressed: zlib, zstd or none, optionally with :LEVEL; empty for zlib.
	Compression string
	// ClusterSize is that of a qcow2 disk in bytes, a power of two from 512 to 2 MiB; 0 for 64 KiB.
	ClusterSize uint64
	// Threads is how many work, at most; 0 for all cores. The bytes don't depend on it.
	Threads uint32
	// ToDevice says that the output is a block device, which a raw disk is written to; it is on the device when the call returns.
	ToDevice bool
}

// WrittenDisk is a disk that was written.
type WrittenDisk struct {
	// VirtualSize is what the virtual machine sees, in bytes.
	VirtualSize uint64
	// Bytes were written: of a raw disk its data, of a qcow2 disk the whole file.
	Bytes uint64
}

func (c *call) diskWriteOptions(options *DiskWriteOptions) *C.lxi_disk_write_options {
	given := one[C.lxi_disk_write_options](&c.arena)
	given.size = C.sizeof_lxi_disk_write_options
	given.monitor = c.monitor
	if options != nil {
		given.format = c.str(options.Format)
		given.compression = c.str(options.Compression)
		given.cluster_size = C.uint64_t(options.ClusterSize)
		given.threads = C.uint32_t(options.Threads)
		given.flags = flags(flag{options.ToDevice, C.LXI_DISK_TO_DEVICE})
	}
	return given
}

// Write writes the disk to a new file, or a block device. A raw file is sparse.
//
// Errors: [ErrAlreadyExists]; [ErrBusy] for a device that is mounted or in use; [ErrInvalidInput] for what is no block device, one that is too small, a
// format that is none, and options that a raw disk has none of; [ErrMalformed]; [ErrLimitExceeded]; [ErrCancelled]; [ErrStorageFull]; [ErrIO]. A new file
// is removed then; a device may hold a part of the disk.
func (d *DiskImage) Write(ctx context.Context, out string, options *DiskWriteOptions) (*WrittenDisk, error) {
	written := C.lxi_disk_written{size: C.sizeof_lxi_disk_written}
	err := d.use(ctx, func(c *call, disk *C.lxi_disk) error {
		var told *C.lxi_error
		return c.check(C.lxi_disk_write(disk, str(out), c.diskWriteOptions(options), &written, &told), told)
	})
	if err != nil {
		return nil, err
	}
	return &WrittenDisk{uint64(written.virtual_size), uint64(written.bytes)}, nil
}

// Close frees the disk. The file stays. It never fails.
func (d *DiskImage) Close() error {
	d.handle.close()
	return nil
}

// MoveDisk moves the disk of a staged image of a virtual machine to a new raw file, or a block device: the rest is committed without it. The image must
// be verified or accepted before, as a device can't be put back. Errors: those of [DiskImage.Write]; [ErrInvalidInput] for a container, for an image that is
// not verified, and for another format than raw.
func (s *Staged) MoveDisk(ctx context.Context, out string, options *DiskWriteOptions) (*WrittenDisk, error) {
	ptr, done, err := s.handle.write()
	if err != nil {
		return nil, err
	}
	defer done()
	c := begin(ctx)
	defer c.end()
	written := C.lxi_disk_written{size: C.sizeof_lxi_disk_written}
	var told *C.lxi_error
	if err := c.check(C.lxi_staged_move_disk((*C.lxi_staged)(ptr), str(out), c.diskWriteOptions(options), &written, &told), told); err != nil {
		return nil, err
	}
	return &WrittenDisk{uint64(written.virtual_size), uint64(written.bytes)}, nil
}
