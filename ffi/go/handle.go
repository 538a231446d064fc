package lxdimage

import (
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// living counts the handles that are open, for the tests.
var living atomic.Int64

// handle owns a handle of the library: it is freed once, when it was closed (or forgotten) and no call uses it.
type handle struct {
	mutex  sync.Mutex
	what   string
	ptr    unsafe.Pointer
	free   func()
	users  int
	closed bool
	// change is held by calls that need the handle for themselves, and shared by those that must not run beside them.
	change sync.RWMutex
}

// own takes a handle; free gives it back to the library.
func own(what string, ptr unsafe.Pointer, free func()) *handle {
	h := &handle{what: what, ptr: ptr, free: free}
	living.Add(1)
	runtime.SetFinalizer(h, func(h *handle) { h.close() })
	return h
}

// acquire is the handle for one call, which must release it.
func (h *handle) acquire() (unsafe.Pointer, error) {
	if h == nil {
		return nil, kindError(ErrInvalidInput, "the value was not made by this package's functions", nil)
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.closed {
		return nil, kindError(ErrInvalidInput, "the "+h.what+" is closed", fs.ErrClosed)
	}
	h.users++
	return h.ptr, nil
}

func (h *handle) release() {
	h.mutex.Lock()
	h.users--
	last := h.closed && h.users == 0
	h.mutex.Unlock()
	if last {
		h.end()
	}
}

func (h *handle) close() {
	if h == nil {
		return
	}
	h.mutex.Lock()
	last := !h.closed && h.users == 0
	h.closed = true
	h.mutex.Unlock()
	if last {
		h.end()
	}
}

func (h *handle) end() {
	runtime.SetFinalizer(h, nil)
	h.free()
	living.Add(-1)
}

// read acquires the handle for a call that others must not change meanwhile.
func (h *handle) read() (unsafe.Pointer, func(), error) {
	ptr, err := h.acquire()
	if err != nil {
		return nil, nil, err
	}
	h.change.RLock()
	return ptr, func() {
		h.change.RUnlock()
		h.release()
	}, nil
}

// write acquires the handle for a call that needs it for itself.
func (h *handle) write() (unsafe.Pointer, func(), error) {
	ptr, err := h.acquire()
	if err != nil {
		return nil, nil, err
	}
	h.change.Lock()
	return ptr, func() {
		h.change.Unlock()
		h.release()
	}, nil
}
