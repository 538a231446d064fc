package lxdimage

// #include <lxd_image.h>
// #include <stdlib.h>
import "C"

import (
	"time"
	"unsafe"
)

// Arguments. What is passed by value may point to Go's memory for the call. What sits in structures may not: that is
// copied to C's memory, which an arena frees after the call.

// str is a text as an argument that is passed by value.
func str(s string) C.lxi_str {
	if s == "" {
		return C.lxi_str{}
	}
	bytes := []byte(s)
	return C.lxi_str{data: (*C.char)(unsafe.Pointer(&bytes[0])), len: C.size_t(len(bytes))}
}

// slice is bytes as an argument that is passed by value.
func slice(b []byte) C.lxi_bytes {
	if len(b) == 0 {
		return C.lxi_bytes{}
	}
	return C.lxi_bytes{data: (*C.uint8_t)(unsafe.Pointer(&b[0])), len: C.size_t(len(b))}
}

// text copies a text of the library.
func text(s C.lxi_str) string {
	if s.len == 0 {
		return ""
	}
	return string(unsafe.Slice((*byte)(unsafe.Pointer(s.data)), int(s.len)))
}

// copied copies bytes of the library.
func copied(b C.lxi_bytes) []byte {
	if b.len == 0 {
		return []byte{}
	}
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(b.data)), int(b.len))...)
}

// named copies bytes of the library that name something.
func named(b C.lxi_bytes) string {
	return string(copied(b))
}

// taken copies what is in a buffer, and frees it.
func taken(buffer *C.lxi_buffer) ([]byte, error) {
	defer C.lxi_buffer_free(buffer)
	var bytes C.lxi_bytes
	var told *C.lxi_error
	if err := check(C.lxi_buffer_get(buffer, &bytes, &told), told); err != nil {
		return nil, err
	}
	return copied(bytes), nil
}

// seconds is a time as the library counts it: 0 for none.
func seconds(t time.Time) C.int64_t {
	if t.IsZero() {
		return 0
	}
	return C.int64_t(t.Unix())
}

// moment is the other way round.
func moment(seconds C.int64_t) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}

// arena is memory of C that lives as long as a call.
type arena struct {
	blocks []unsafe.Pointer
}

// alloc is zeroed memory.
func (a *arena) alloc(size uintptr) unsafe.Pointer {
	block := C.calloc(1, C.size_t(size))
	if block == nil {
		panic("lxdimage: out of memory")
	}
	a.blocks = append(a.blocks, block)
	return block
}

func (a *arena) free() {
	for _, block := range a.blocks {
		C.free(block)
	}
	a.blocks = nil
}

// one is room for a structure in an arena.
func one[T any](a *arena) *T {
	var zero T
	return (*T)(a.alloc(unsafe.Sizeof(zero)))
}

// many is room for structures in an arena: their first, which is nil for none, and all.
func many[T any](a *arena, count int) (*T, []T) {
	if count == 0 {
		return nil, nil
	}
	var zero T
	first := (*T)(a.alloc(unsafe.Sizeof(zero) * uintptr(count)))
	return first, unsafe.Slice(first, count)
}

func (a *arena) bytes(b []byte) C.lxi_bytes {
	if len(b) == 0 {
		return C.lxi_bytes{}
	}
	first, all := many[byte](a, len(b))
	copy(all, b)
	return C.lxi_bytes{data: (*C.uint8_t)(unsafe.Pointer(first)), len: C.size_t(len(b))}
}

func (a *arena) str(s string) C.lxi_str {
	if s == "" {
		return C.lxi_str{}
	}
	first, all := many[byte](a, len(s))
	copy(all, s)
	return C.lxi_str{data: (*C.char)(unsafe.Pointer(first)), len: C.size_t(len(s))}
}

func (a *arena) strs(list []string) (*C.lxi_str, C.size_t) {
	first, all := many[C.lxi_str](a, len(list))
	for i, s := range list {
		all[i] = a.str(s)
	}
	return first, C.size_t(len(list))
}

func (a *arena) pairs(values Properties) (*C.lxi_pair, C.size_t) {
	first, all := many[C.lxi_pair](a, len(values))
	for i, property := range values {
		all[i].key = a.str(property.Key)
		all[i].value = a.str(property.Value)
	}
	return first, C.size_t(len(values))
}

func (a *arena) fingerprint(f *Fingerprint) *C.lxi_fingerprint {
	if f == nil {
		return nil
	}
	given := one[C.lxi_fingerprint](a)
	*given = f.c()
	return given
}
