// Package lxdimage reads, verifies, unpacks, packs, stores, signs, fetches, serves and templates LXD and Incus images, in
// process and without helper programs. It calls the C library lxd_image, which pkg-config finds.
//
// [Open] and [Pack] are about files, [OpenStore] about images with names, [Connect] and [OpenSettings] about servers and
// registries, [Store.Serve] is one, [OpenTree] a static one; [Store.Sign] and [Policy] say who vouches for an image,
// [Store.CreateBundle] carries images, [OpenDisk] reads the disks of virtual machines.
//
// # Errors
//
// A call that fails returns an *[Error]: what, where, and what now. Its kind is asked for with errors.Is:
//
//	if errors.Is(err, lxdimage.ErrMismatch) { … }
//
// What a caller's own reader or writer returned is in the chain too, and so is the context's error where a context stopped
// the call.
//
// # Contexts
//
// Every long call takes a context. When it is done the call stops soon, undoes what it began, and fails with an error that
// is both [ErrCancelled] and the context's. A call can't be stopped while it waits inside of a caller's own Read or Write.
// [WithProgress] lets a context bring reports, and [WithOmissions] tells what the calls left out: results that have room for
// it tell it too.
//
// # Closing
//
// Types with a Close method hold memory and descriptors of the library. Close gives them back, may be called twice and
// at any time: calls that are under way end normally, later ones fail with an error that is [io/fs.ErrClosed]. What is
// forgotten is closed by the garbage collector, some time or never. Everything else is plain Go data.
//
// # Goroutines
//
// All functions and methods may be called from many goroutines. Calls that change a value ([Hasher.Write],
// [Metadata.SetProperty], [Limits.Set], [Staged.Commit] …) wait for each other; all others run side by side.
//
// Functions that are given to a call (readers, writers, those of [WithProgress] and [Image.Survey]) run on threads of the library. They may
// call this package and may panic, which stops the call and panics on the caller's goroutine. They must not end their
// goroutine (runtime.Goexit, and so testing.T.FailNow).
package lxdimage

// #cgo pkg-config: lxd_image
// #include <lxd_image.h>
import "C"

import "fmt"

func init() {
	if found := C.lxi_abi_version(); found != C.LXI_ABI_VERSION {
		panic(fmt.Sprintf("lxdimage: compiled for version %d of the library's interface, and found %d: compile anew", C.LXI_ABI_VERSION, found))
	}
}

// Version is the version of the library, such as 0.2.0.
func Version() string {
	return C.GoString(C.lxi_version())
}

// HasFeature says whether a part of the library was compiled in: a codec such as gzip or zstd, delta, disk, oci, remote,
// server, signatures, simplestreams, store, templates, trust, object-store, postgres.
func HasFeature(name string) bool {
	var yes C.bool
	return C.lxi_has_feature(str(name), &yes, nil) == C.LXI_OK && bool(yes)
}
