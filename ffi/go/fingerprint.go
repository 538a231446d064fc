package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"encoding/hex"
	"io"
	"unsafe"
)

// Fingerprint is the name of an image: the sha256 of its bytes as stored; of a split image, of the metadata file's bytes
// followed by the rootfs file's.
type Fingerprint [32]byte

// ParseFingerprint reads 64 hex digits of either case and nothing else. Errors: [ErrInvalidInput].
func ParseFingerprint(text string) (Fingerprint, error) {
	var found C.lxi_fingerprint
	var told *C.lxi_error
	if err := check(C.lxi_fingerprint_parse(str(text), &found, &told), told); err != nil {
		return Fingerprint{}, err
	}
	return toFingerprint(&found), nil
}

// FingerprintOf computes the fingerprint of one file, or of two one after the other. They need not be an image.
// Errors: [ErrNotFound], [ErrCancelled], [ErrIO].
func FingerprintOf(ctx context.Context, source Source) (Fingerprint, error) {
	c := begin(ctx)
	defer c.end()
	first, second, closing, err := c.source(source)
	if err != nil {
		return Fingerprint{}, err
	}
	defer closing()
	var found C.lxi_fingerprint
	var told *C.lxi_error
	if err := c.check(C.lxi_fingerprint_of(first, second, c.monitor, &found, &told), told); err != nil {
		return Fingerprint{}, err
	}
	return toFingerprint(&found), nil
}

// String is the fingerprint as 64 lower-case hex digits.
func (f Fingerprint) String() string {
	return hex.EncodeToString(f[:])
}

// MarshalText is [Fingerprint.String] for encoding packages.
func (f Fingerprint) MarshalText() ([]byte, error) {
	return []byte(f.String()), nil
}

// UnmarshalText is [ParseFingerprint] for encoding packages.
func (f *Fingerprint) UnmarshalText(text []byte) error {
	found, err := ParseFingerprint(string(text))
	if err == nil {
		*f = found
	}
	return err
}

func (f Fingerprint) c() C.lxi_fingerprint {
	return *(*C.lxi_fingerprint)(unsafe.Pointer(&f))
}

func toFingerprint(f *C.lxi_fingerprint) Fingerprint {
	return *(*Fingerprint)(unsafe.Pointer(f))
}

// Hasher is a fingerprint in the making: an [io.Writer] for the bytes of an image in order; of a split one, the metadata
// file's and then the rootfs file's. It has a Close method.
type Hasher struct {
	handle *handle
}

// NewHasher makes a hasher that has seen nothing.
func NewHasher() (*Hasher, error) {
	var hasher *C.lxi_hasher
	var told *C.lxi_error
	if err := check(C.lxi_hasher_new(&hasher, &told), told); err != nil {
		return nil, err
	}
	return &Hasher{own("hasher", unsafe.Pointer(hasher), func() { C.lxi_hasher_free(hasher) })}, nil
}

// Write takes the next bytes, all of them.
func (h *Hasher) Write(bytes []byte) (int, error) {
	ptr, done, err := h.handle.write()
	if err != nil {
		return 0, err
	}
	defer done()
	var told *C.lxi_error
	if err := check(C.lxi_hasher_update((*C.lxi_hasher)(ptr), slice(bytes), &told), told); err != nil {
		return 0, err
	}
	return len(bytes), nil
}

// ReadFrom takes all that a reader gives, in large pieces.
func (h *Hasher) ReadFrom(reader io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{reader}, make([]byte, 256<<10))
}

// Fingerprint is that of all bytes so far, with their number. More may follow.
func (h *Hasher) Fingerprint() (Fingerprint, uint64, error) {
	ptr, done, err := h.handle.read()
	if err != nil {
		return Fingerprint{}, 0, err
	}
	defer done()
	var found C.lxi_fingerprint
	var bytes C.uint64_t
	var told *C.lxi_error
	if err := check(C.lxi_hasher_get((*C.lxi_hasher)(ptr), &found, &bytes, &told), told); err != nil {
		return Fingerprint{}, 0, err
	}
	return toFingerprint(&found), uint64(bytes), nil
}

// Close frees the hasher. It never fails.
func (h *Hasher) Close() error {
	h.handle.close()
	return nil
}
