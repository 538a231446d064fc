package lxdimage

// #include "callbacks.h"
import "C"

import (
	"io"
	"os"
	"runtime/cgo"
	"syscall"
)

// Input is one file of an image: where its bytes come from. Made by [File], [Bytes], [Reader] or [Path].
type Input struct {
	kind   C.lxi_input_kind
	file   *os.File
	bytes  []byte
	reader io.Reader
	path   string
	name   string
}

// File reads an open file. A regular one is read at positions, so its offset neither matters nor moves; it may be closed
// and read many times after the call that takes it. Pipes, sockets and devices are read as by [Reader].
func File(file *os.File) Input {
	return Input{kind: C.LXI_INPUT_FD, file: file}
}

// Bytes reads memory, which the call that takes it copies.
func Bytes(bytes []byte) Input {
	return Input{kind: C.LXI_INPUT_BYTES, bytes: bytes}
}

// Reader reads what a reader gives, once, from front to back: a second reading fails with [ErrInvalidInput]. The reader is
// used, by one goroutine at a time, until the call returns, or what was opened from it is closed. It is not closed.
func Reader(reader io.Reader) Input {
	return Input{kind: C.LXI_INPUT_STREAM, reader: reader}
}

// Path reads the file of that name.
func Path(path string) Input {
	return Input{kind: C.LXI_INPUT_PATH, path: path}
}

// Named gives it another name to show in errors, and for a store to remember.
func (i Input) Named(name string) Input {
	i.name = name
	return i
}

// Source is what makes an image: one file or two. Made by [Unified] and [Split].
type Source struct {
	first, second Input
	split         bool
}

// Unified is an image in one file.
func Unified(file Input) Source {
	return Source{first: file}
}

// Split is an image in two files, metadata and rootfs in either order.
func Split(one, other Input) Source {
	return Source{first: one, second: other, split: true}
}

// input makes an argument of an input. Descriptors that it has to borrow are closed by the returned function.
func (c *call) input(i Input) (*C.lxi_input, func(), error) {
	given := one[C.lxi_input](&c.arena)
	given.size = C.sizeof_lxi_input
	given.kind = i.kind
	given.name = c.str(i.name)
	nothing := func() {}
	switch i.kind {
	case C.LXI_INPUT_FD:
		return c.fileInput(i, given)
	case C.LXI_INPUT_BYTES:
		given.bytes = c.arena.bytes(i.bytes)
	case C.LXI_INPUT_PATH:
		given.path = c.str(i.path)
	case C.LXI_INPUT_STREAM:
		if i.reader == nil {
			return nil, nil, kindError(ErrInvalidInput, "the reader is nil", nil)
		}
		s := &stream{reader: i.reader}
		c.streams = append(c.streams, s)
		// The library gives it back: lxiGoRelease.
		C.lxi_go_set_stream(given, C.uintptr_t(cgo.NewHandle(s)))
	default:
		return nil, nil, kindError(ErrInvalidInput, "an input that was not made by File, Bytes, Reader or Path", nil)
	}
	return given, nothing, nil
}

// fileInput borrows a file's descriptor without Fd, which would make a pipe's reads block a thread each.
func (c *call) fileInput(i Input, given *C.lxi_input) (*C.lxi_input, func(), error) {
	about, err := i.file.Stat()
	if err != nil {
		return nil, nil, kindError(ErrInvalidInput, "the file can't be used: "+err.Error(), err)
	}
	if i.name == "" {
		given.name = c.str(i.file.Name())
	}
	if !about.Mode().IsRegular() && !about.IsDir() {
		return c.input(Reader(i.file).Named(text(given.name)))
	}
	fd, err := duplicate(i.file)
	if err != nil {
		return nil, nil, err
	}
	given.fd = C.int32_t(fd)
	return given, func() { syscall.Close(fd) }, nil
}

// duplicate makes a descriptor of ours, so that nobody closes it during the call.
func duplicate(file *os.File) (int, error) {
	connection, err := file.SyscallConn()
	if err != nil {
		return -1, kindError(ErrInvalidInput, "the file can't be used: "+err.Error(), err)
	}
	var copied uintptr
	var failed syscall.Errno
	err = connection.Control(func(fd uintptr) {
		copied, _, failed = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
	})
	if err == nil && failed != 0 {
		err = failed
	}
	if err != nil {
		return -1, kindError(ErrIO, "the file can't be used: "+err.Error(), err)
	}
	return int(copied), nil
}

// source makes arguments of one input or two. Whatever the outcome, streams that were made are released: by the library
// when it gets them, and here when it does not.
func (c *call) source(s Source) (first, second *C.lxi_input, closing func(), err error) {
	first, closeFirst, err := c.input(s.first)
	if err != nil {
		return nil, nil, nil, err
	}
	if !s.split {
		return first, nil, closeFirst, nil
	}
	second, closeSecond, err := c.input(s.second)
	if err != nil {
		closeFirst()
		c.unused(first)
		return nil, nil, nil, err
	}
	return first, second, func() {
		closeFirst()
		closeSecond()
	}, nil
}

// unused releases streams of inputs that the library never got.
func (c *call) unused(inputs ...*C.lxi_input) {
	for _, input := range inputs {
		if input != nil && input.kind == C.LXI_INPUT_STREAM {
			C.lxi_go_release_stream(input)
		}
	}
}
