package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"sync"
)

// OmissionKind is what was left out of an object, or how it differs from what was asked for.
type OmissionKind uint32

// The kinds of omissions.
const (
	// OmissionOther is something newer than this list.
	OmissionOther OmissionKind = C.LXI_OMISSION_OTHER
	// OmissionDevice: a device node was not created: not permitted here, or not wanted.
	OmissionDevice OmissionKind = C.LXI_OMISSION_DEVICE
	// OmissionOwner: the owner was left as the caller's own, since only root can give files away.
	OmissionOwner OmissionKind = C.LXI_OMISSION_OWNER
	// OmissionSetID: setuid and setgid bits were left off because the owner is not the image's.
	OmissionSetID OmissionKind = C.LXI_OMISSION_SET_ID
	// OmissionXattr: an extended attribute.
	OmissionXattr OmissionKind = C.LXI_OMISSION_XATTR
	// OmissionTime: the modification time, which the file system would not take.
	OmissionTime OmissionKind = C.LXI_OMISSION_TIME
	// OmissionStray: the whole entry, which stands at the top of the archive and is not part of an image.
	OmissionStray OmissionKind = C.LXI_OMISSION_STRAY
	// OmissionSkipped: the whole object.
	OmissionSkipped OmissionKind = C.LXI_OMISSION_SKIPPED
	// OmissionDropped: one part of the object: an alias, a property, an attribute of a set.
	OmissionDropped OmissionKind = C.LXI_OMISSION_DROPPED
	// OmissionClamped: a value was out of range, and another one stands in its place.
	OmissionClamped OmissionKind = C.LXI_OMISSION_CLAMPED
	// OmissionDefaulted: a value was missing, and another one was used.
	OmissionDefaulted OmissionKind = C.LXI_OMISSION_DEFAULTED
	// OmissionNotHonoured: something that the caller asked for had no effect.
	OmissionNotHonoured OmissionKind = C.LXI_OMISSION_NOT_HONOURED
	// OmissionRemoved: the whole object, which was there before and had to go.
	OmissionRemoved OmissionKind = C.LXI_OMISSION_REMOVED
)

// String is the kind in a word.
func (o OmissionKind) String() string {
	names := [...]string{
		OmissionDevice:      "device",
		OmissionOwner:       "owner",
		OmissionSetID:       "set-id",
		OmissionXattr:       "xattr",
		OmissionTime:        "time",
		OmissionStray:       "stray",
		OmissionSkipped:     "skipped",
		OmissionDropped:     "dropped",
		OmissionClamped:     "clamped",
		OmissionDefaulted:   "defaulted",
		OmissionNotHonoured: "not-honoured",
		OmissionRemoved:     "removed",
	}
	if int(o) < len(names) && names[o] != "" {
		return names[o]
	}
	return "other"
}

// Omission is one thing that was left out.
type Omission struct {
	// Path is the object: for a member of an image its path below the root file system ([OmissionStray]: below the archive's
	// top), for an image its fingerprint or name, for an entry of a list its name there. Any bytes; empty for the call itself.
	Path string
	// Kind is what was left out of it.
	Kind OmissionKind
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
			found.List = append(found.List, Omission{named(omission.path), OmissionKind(omission.kind), text(omission.text)})
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
