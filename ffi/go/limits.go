package lxdimage

// #include <lxd_image.h>
import "C"

import "unsafe"

// Limits are what input may ask for: every bound on an image from a stranger. Calls that take them copy them; nil stands
// for the defaults, which suit images from anywhere. They have a Close method.
type Limits struct {
	handle *handle
}

// NewLimits makes limits with the default values.
func NewLimits() (*Limits, error) {
	var limits *C.lxi_limits
	var told *C.lxi_error
	return ownLimits(&limits, check(C.lxi_limits_new(&limits, &told), told))
}

// NewTrustedLimits makes limits for images whose maker is trusted: what guards memory, disk and time is lifted as far as the
// formats go. Rules about paths are not limits and always hold.
func NewTrustedLimits() (*Limits, error) {
	var limits *C.lxi_limits
	var told *C.lxi_error
	return ownLimits(&limits, check(C.lxi_limits_new_trusted(&limits, &told), told))
}

func ownLimits(made **C.lxi_limits, err error) (*Limits, error) {
	if err != nil {
		return nil, err
	}
	limits := *made
	return &Limits{own("limits", unsafe.Pointer(limits), func() { C.lxi_limits_free(limits) })}, nil
}

// LimitNames are the names of all limits.
func LimitNames() []string {
	var names []string
	for {
		var name C.lxi_str
		if C.lxi_limits_name_at(C.size_t(len(names)), &name, nil) != C.LXI_OK {
			return names
		}
		names = append(names, text(name))
	}
}

// Set sets one limit by its name: bytes, unless it counts something else. Two bound what goes to temporary files: over diff_memory
// comparing two images uses one, and spool is the most of a SquashFS that comes as a stream. Errors: [ErrInvalidInput] for a name that is
// none, and for 0.
func (l *Limits) Set(name string, value uint64) error {
	ptr, done, err := l.handle.write()
	if err != nil {
		return err
	}
	defer done()
	var told *C.lxi_error
	return check(C.lxi_limits_set((*C.lxi_limits)(ptr), str(name), C.uint64_t(value), &told), told)
}

// Get is the value of one limit. Errors: [ErrInvalidInput] for a name that is none.
func (l *Limits) Get(name string) (uint64, error) {
	ptr, done, err := l.handle.read()
	if err != nil {
		return 0, err
	}
	defer done()
	var value C.uint64_t
	var told *C.lxi_error
	err = check(C.lxi_limits_get((*C.lxi_limits)(ptr), str(name), &value, &told), told)
	return uint64(value), err
}

// Close frees the limits. It never fails.
func (l *Limits) Close() error {
	l.handle.close()
	return nil
}

// borrow lends limits, which may be nil, for a call.
func (l *Limits) borrow() (*C.lxi_limits, func(), error) {
	if l == nil {
		return nil, func() {}, nil
	}
	ptr, done, err := l.handle.read()
	return (*C.lxi_limits)(ptr), done, err
}
