package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"io"
	"runtime/cgo"
	"sync"
	"time"
	"unsafe"
)

// failure keeps the first error and the first panic of a caller's own functions: neither can pass through the library.
type failure struct {
	mutex    sync.Mutex
	err      error
	panicked any
	panics   bool
}

func (f *failure) note(err error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.err == nil {
		f.err = err
	}
}

// get is the error that was noted.
func (f *failure) get() error {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.err
}

// raise lets a panic go on.
func (f *failure) raise() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.panics {
		f.panics = false
		panic(f.panicked)
	}
}

// catch is deferred around a caller's function.
func (f *failure) catch(caught func()) {
	if value := recover(); value != nil {
		f.mutex.Lock()
		f.panicked, f.panics = value, true
		f.mutex.Unlock()
		caught()
	}
}

// stream is a caller's reader. It gives its handle back itself, when the library releases it.
type stream struct {
	failure
	reader io.Reader
	after  error
}

// mostEmptyReads is how often a reader may give nothing before that is an error, as in bufio.
const mostEmptyReads = 100

func (s *stream) read(buffer []byte) (int, error) {
	if s.after != nil {
		return 0, s.after
	}
	for i := 0; i < mostEmptyReads; i++ {
		count, err := s.reader.Read(buffer)
		if count < 0 || count > len(buffer) {
			panic("lxdimage: the reader gave a count that can't be")
		}
		if count > 0 {
			s.after = err
			return count, nil
		}
		if err != nil {
			s.after = err
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

//export lxiGoRead
func lxiGoRead(handle C.uintptr_t, buffer *C.uint8_t, capacity C.size_t, got *C.size_t) (status C.lxi_status) {
	s := cgo.Handle(handle).Value().(*stream)
	defer s.catch(func() { status = C.LXI_IO })
	count, err := s.read(unsafe.Slice((*byte)(unsafe.Pointer(buffer)), int(capacity)))
	if err != nil && err != io.EOF {
		s.note(err)
		return statusOf(err)
	}
	*got = C.size_t(count)
	return C.LXI_OK
}

//export lxiGoRelease
func lxiGoRelease(handle C.uintptr_t) {
	cgo.Handle(handle).Delete()
}

// sink is a caller's writer.
type sink struct {
	*failure
	writer io.Writer
}

//export lxiGoWrite
func lxiGoWrite(handle C.uintptr_t, data *C.uint8_t, length C.size_t) (status C.lxi_status) {
	s := cgo.Handle(handle).Value().(*sink)
	defer s.catch(func() { status = C.LXI_IO })
	count, err := s.writer.Write(unsafe.Slice((*byte)(unsafe.Pointer(data)), int(length)))
	if err == nil && count < int(length) {
		err = io.ErrShortWrite
	}
	if err != nil {
		s.note(err)
		return statusOf(err)
	}
	return C.LXI_OK
}

// viewer is a caller's function that looks at entries.
type viewer struct {
	*failure
	show func(*Entry) error
}

//export lxiGoShow
func lxiGoShow(handle C.uintptr_t, entry *C.lxi_entry) (status C.lxi_status) {
	v := cgo.Handle(handle).Value().(*viewer)
	defer v.catch(func() { status = C.LXI_CANCELLED })
	if err := v.show(toEntry(entry)); err != nil {
		v.note(err)
		return statusOf(err)
	}
	return C.LXI_OK
}

// reports is a caller's function that takes reports, one at a time.
type reports struct {
	*failure
	one    sync.Mutex
	report func(Progress)
}

//export lxiGoReport
func lxiGoReport(handle C.uintptr_t, progress *C.lxi_progress) (stop C.int32_t) {
	r := cgo.Handle(handle).Value().(*reports)
	defer r.catch(func() { stop = 1 })
	r.one.Lock()
	defer r.one.Unlock()
	update := Progress{Phase: Phase(progress.phase), Done: uint64(progress.done), Total: -1}
	if progress.has_total {
		update.Total = int64(progress.total)
	}
	r.report(update)
	return 0
}

// ticker is a caller's clock.
type ticker struct {
	failure
	now func() time.Time
}

//export lxiGoClock
func lxiGoClock(handle C.uintptr_t) (now C.int64_t) {
	t := cgo.Handle(handle).Value().(*ticker)
	defer t.catch(func() { now = C.int64_t(time.Now().Unix()) })
	return C.int64_t(t.now().Unix())
}
