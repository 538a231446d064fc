package lxdimage

// #include <lxd_image.h>
import "C"

import "context"

// DifferenceKind is how a member differs.
type DifferenceKind uint32

// The kinds of differences.
const (
	// DifferenceOnlyInFirst: only the first image has it.
	DifferenceOnlyInFirst DifferenceKind = C.LXI_DIFFERENCE_ONLY_IN_FIRST
	// DifferenceOnlyInSecond: only the second image has it.
	DifferenceOnlyInSecond DifferenceKind = C.LXI_DIFFERENCE_ONLY_IN_SECOND
	// DifferenceChanged: both have it, with other attributes or content.
	DifferenceChanged DifferenceKind = C.LXI_DIFFERENCE_CHANGED
)

// Difference is a member that is not the same in two images.
type Difference struct {
	// Path is metadata.yaml, or begins with templates/ or rootfs. Any bytes.
	Path string
	// Kind is how it differs.
	Kind DifferenceKind
	// Attributes are those that differ.
	Attributes []AttributeDifference
}

// AttributeDifference is an attribute that differs: its name (mode, owner, mtime, content …) and both values.
type AttributeDifference struct {
	Name, First, Second string
}

// Differences compares what two images hold, sorted by path. Their form and codecs don't count. Errors: those of
// [Image.Verify], and [ErrMalformed] or [ErrUnsafePath] when one of them breaks a rule.
func Differences(ctx context.Context, first, second *Image, options *VerifyOptions) ([]Difference, error) {
	c, one, end, err := first.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	other, err := second.handle.acquire()
	if err != nil {
		return nil, err
	}
	defer second.handle.release()
	c.streams = append(append([]*stream(nil), first.streams...), second.streams...)
	var found *C.lxi_differences
	var count C.size_t
	var told *C.lxi_error
	status := C.lxi_image_differences(one, (*C.lxi_image)(other), c.verifyOptions(options), &found, &count, &told)
	if err := c.check(status, told); err != nil {
		return nil, err
	}
	defer C.lxi_differences_free(found)
	differences := make([]Difference, 0, int(count))
	for i := C.size_t(0); i < count; i++ {
		info := C.lxi_difference_info{size: C.sizeof_lxi_difference_info}
		if err := check(C.lxi_differences_at(found, i, &info, &told), told); err != nil {
			return nil, err
		}
		difference := Difference{Path: named(info.path), Kind: DifferenceKind(info.kind)}
		for j := C.size_t(0); j < info.attributes; j++ {
			var name, a, b C.lxi_str
			if err := check(C.lxi_differences_attribute_at(found, i, j, &name, &a, &b, &told), told); err != nil {
				return nil, err
			}
			difference.Attributes = append(difference.Attributes, AttributeDifference{text(name), text(a), text(b)})
		}
		differences = append(differences, difference)
	}
	return differences, nil
}
