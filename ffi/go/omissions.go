package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"sync"
)

// Omitted is what was left out of an object, or how it differs from what was asked for.
type Omitted uint32

// The kinds of omissions.
const (
	// OmittedOther is something newer than this list.
	OmittedOther Omitted = C.LXI_OMITTED_OTHER
	// OmittedDevice: a device node was not created: not permitted here, or not wanted.
	OmittedDevice Omitted = C.LXI_OMITTED_DEVICE
	// OmittedOwner: the owner was left as the caller's own, since only root can give files away.
	OmittedOwner Omitted = C.LXI_OMITTED_OWNER
	// OmittedSetID: setuid and setgid bits were left off because the owner is not the image's.
	OmittedSetID Omitted = C.LXI_OMITTED_SET_ID
	// OmittedXattr: an extended attribute.
	OmittedXattr Omitted = C.LXI_OMITTED_XATTR
	// OmittedTime: the modification time, which the file system would not take.
	OmittedTime Omitted = C.LXI_OMITTED_TIME
	// OmittedStray: the whole entry, which stands at the top of the archive and is not part of an image.
	OmittedStray Omitted = C.LXI_OMITTED_STRAY
	// OmittedSkipped: the whole object.
	OmittedSkipped Omitted = C.LXI_OMITTED_SKIPPED
	// OmittedDropped: one part of the object: an alias, a property, an attribute of a set.
	OmittedDropped Omitted = C.LXI_OMITTED_DROPPED
	// OmittedClamped: a value was out of range, and another one stands in its place.
	OmittedClamped Omitted = C.LXI_OMITTED_CLAMPED
	// OmittedDefaulted: a value was missing, and another one was used.
	OmittedDefaulted Omitted = C.LXI_OMITTED_DEFAULTED
	// OmittedNotHonoured: something that the caller asked for had no effect.
	OmittedNotHonoured Omitted = C.LXI_OMITTED_NOT_HONOURED
	// OmittedRemoved: the whole object, which was there before and had to go.
	OmittedRemoved Omitted = C.LXI_OMITTED_REMOVED
)

// String is the kind in a word.
func (o Omitted) String() string {
	names := [...]string{
		OmittedDevice:      "device",
		OmittedOwner:       "owner",
		OmittedSetID:       "set-id",
		OmittedXattr:       "xattr",
		OmittedTime:        "time",
		OmittedStray:       "stray",
		OmittedSkipped:     "skipped",
		OmittedDropped:     "dropped",
		OmittedClamped:     "clamped",
		OmittedDefaulted:   "defaulted",
		OmittedNotHonoured: "not-honoured",
		OmittedRemoved:     "removed",
	}
	if int(o) < len(names) && names[o] != "" {
		return names[o]
	}
	return "other"
}

// Omission is one thing that was left out.
type Omission struct {
	// Path is the object: for a member of an image its path below the root file system ([OmittedStray]: below the archive's
	// top), for an image its fingerprint or name, for an entry of a list its name there. Any bytes; empty for the call itself.
	Path string
	// Kind is what was left out of it.
	Kind Omitted
	// What is the same and why in words, without the path. Safe to print on a terminal.
	What string
}

// mostOmissions is how many are kept one by one, as in the library.
const mostOmissions = 1000

// Omissions are what calls left out, changed, defaulted or could not honour: the first 1,000 one by one, the rest counted.
// The zero value is an empty one.
type Omissions struct {
	// List are the ones that are kept, in the order in which they were met.
	List []Omission
	// Counts say how many there are of each kind, by [Omission.What]; nil if nothing was left out.
	Counts map[string]uint64
	// Total is how many there are in all.
	Total uint64
}

// Add adds those of another call. For one goroutine at a time; as the function of [WithOmissions] it is called so.
func (o *Omissions) Add(other Omissions) {
	room := mostOmissions - len(o.List)
	if room > len(other.List) {
		room = len(other.List)
	}
	o.List = append(o.List, other.List[:room]...)
	if o.Counts == nil && len(other.Counts) > 0 {
		o.Counts = map[string]uint64{}
	}
	for kind, count := range other.Counts {
		o.Counts[kind] += count
	}
	o.Total += other.Total
}

type omissionsKey struct{}

// recorder is a caller's function that takes omissions, from one call at a time.
type recorder struct {
	one    sync.Mutex
	record func(Omissions)
}

func (r *recorder) tell(found Omissions) {
	r.one.Lock()
	defer r.one.Unlock()
	r.record(found)
}

// WithOmissions makes a context whose calls tell what they left out, one call at a time: each when it is over, also when it
// failed, if it left out anything.
//
//	var left lxdimage.Omissions
//	ctx = lxdimage.WithOmissions(ctx, left.Add)
func WithOmissions(ctx context.Context, record func(Omissions)) context.Context {
	return context.WithValue(ctx, omissionsKey{}, &recorder{record: record})
}

// omissions are what the call left out so far.
func (c *call) omissions() Omissions {
	var found Omissions
	info := C.lxi_omissions_info{size: C.sizeof_lxi_omissions_info}
	if C.lxi_omissions_get(c.record, &info, nil) != C.LXI_OK || info.total == 0 {
		return found
	}
	found.Total = uint64(info.total)
	found.Counts = make(map[string]uint64, int(info.kinds))
	for i := C.size_t(0); i < info.listed; i++ {
		omission := C.lxi_omission{size: C.sizeof_lxi_omission}
		if C.lxi_omissions_at(c.record, i, &omission, nil) == C.LXI_OK {
			found.List = append(found.List, Omission{named(omission.path), Omitted(omission.what), text(omission.text)})
		}
	}
	for i := C.size_t(0); i < info.kinds; i++ {
		var words C.lxi_str
		var count C.uint64_t
		if C.lxi_omissions_kind_at(c.record, i, &words, &count, nil) == C.LXI_OK {
			found.Counts[text(words)] = uint64(count)
		}
	}
	return found
}
