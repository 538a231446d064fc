package lxdimage

// #include "callbacks.h"
import "C"

import (
	"context"
	"runtime/cgo"
	"sync"
	"time"
	"unsafe"
)

// Server serves a store, on threads of the library, until it is stopped or closed: to LXD and Incus, to tools of simplestreams, for import
// by URL, and as pages for people.
type Server struct {
	handle *handle
	log    *logger
}

// ServerOptions say how a store is served. Listen must name an address; TLS needs Certificate and Key, or Directory.
type ServerOptions struct {
	// Listen is where: ADDRESS:PORT for TLS, http://ADDRESS:PORT for plain HTTP; port 0 takes a free one.
	Listen []string
	// AllowHTTP offers plain HTTP to other machines.
	AllowHTTP bool
	// Certificate and Key are the server's in PEM.
	Certificate, Key string
	// Directory keeps a certificate that is made at the first start, where Certificate is empty.
	Directory string
	// Trusted are certificates of clients that may see and change everything: a file, or a directory with *.crt and *.pem, read again
	// when it changes.
	Trusted string
	// Name is the server's on its pages.
	Name string
	// BaseURL is the URL of the server for clients, if it differs from the host that they ask.
	BaseURL string
	// Threads for connections; 0 for one a core. Requests are answered on others.
	Threads uint32
	// Grace is how long running requests may go on when the server is stopped; nil: 30 seconds.
	Grace *time.Duration
	// Limits on what clients send.
	Limits *Limits
	// Settings have the remotes that trusted clients may name as the source of an image; nil: the server fetches nothing, and sends nothing to other
	// servers.
	Settings *Settings
	// Upstream is a remote of the settings whose public images are offered to all clients, and cached when one asks for them. An image that is larger
	// than the limit cache is not fetched, and the least recently used ones go when all are; eight downloads run at once.
	Upstream string
	// Client says how other servers are spoken to.
	Client *ClientOptions
	// Log takes one line at a time, of a request that was answered or a note; nil for none. One that takes long loses later lines, and
	// delays no request. It must not stop or close the server. If it panics, [Server.Stop] and [Server.Close] panic.
	Log func(line string)
}

// logger is a caller's log.
type logger struct {
	failure
	line func(string)
}

//export lxiGoLog
func lxiGoLog(handle C.uintptr_t, line C.lxi_str) {
	l := cgo.Handle(handle).Value().(*logger)
	defer l.catch(func() {})
	l.line(text(line))
}

// Serve starts a server of the store. It answers when this returns, and goes on when the store is closed.
//
// Errors: [ErrInvalidInput] for an address that is none, for TLS without a certificate, and for plain HTTP to other machines that is not
// allowed; [ErrMalformed] for a certificate, a key or trusted certificates that can't be read; [ErrIO] when an address can't be bound.
func (s *Store) Serve(options ServerOptions) (*Server, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	limits, done, err := options.Limits.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	given := one[C.lxi_server_options](&c.arena)
	given.size = C.sizeof_lxi_server_options
	given.limits = limits
	given.threads = C.uint32_t(options.Threads)
	settings, settingsDone, err := options.Settings.lend()
	if err != nil {
		return nil, err
	}
	defer settingsDone()
	client, clientDone, err := c.clientOptions(options.Client)
	if err != nil {
		return nil, err
	}
	defer clientDone()
	given.settings, given.upstream = settings, c.str(options.Upstream)
	if options.Client != nil {
		given.client = client
	}
	given.listen, given.listen_len = c.strs(options.Listen)
	given.certificate, given.key = c.str(options.Certificate), c.str(options.Key)
	given.directory, given.trusted = c.str(options.Directory), c.str(options.Trusted)
	given.name, given.base_url = c.str(options.Name), c.str(options.BaseURL)
	if options.AllowHTTP {
		given.flags |= C.LXI_SERVER_ALLOW_HTTP
	}
	if options.Grace != nil {
		given.flags |= C.LXI_SERVER_GRACE
		if grace := options.Grace.Milliseconds(); grace > 0 {
			given.grace_milliseconds = C.uint64_t(grace)
		}
	}
	found := &Server{}
	forget := func() {}
	if options.Log != nil {
		found.log = &logger{line: options.Log}
		log := cgo.NewHandle(found.log)
		forget = log.Delete
		C.lxi_go_set_log(given, C.uintptr_t(log))
	}
	var server *C.lxi_server
	var told *C.lxi_error
	if err := c.check(C.lxi_server_start(store, given, &server, &told), told); err != nil {
		forget()
		return nil, err
	}
	// The store's clock may be a Go function that the server still calls: the store must not be freed before the server.
	kept := s.handle
	if _, err := kept.acquire(); err != nil {
		C.lxi_server_free(server)
		forget()
		return nil, err
	}
	var once sync.Once
	found.handle = own("server", unsafe.Pointer(server), func() {
		C.lxi_server_free(server)
		forget()
		once.Do(kept.release)
	})
	return found, nil
}

// URLs are where the server listens, in the order of Listen; port 0 is replaced by the chosen one.
func (s *Server) URLs() []string {
	ptr, err := s.handle.acquire()
	if err != nil {
		return nil
	}
	defer s.handle.release()
	var urls []string
	for {
		var url C.lxi_str
		if C.lxi_server_url_at((*C.lxi_server)(ptr), C.size_t(len(urls)), &url, nil) != C.LXI_OK {
			return urls
		}
		urls = append(urls, text(url))
	}
}

// Fingerprint is the sha256 of the server's certificate, which clients compare when they add it as a remote. Errors: [ErrNotFound] without
// a certificate.
func (s *Server) Fingerprint() (Fingerprint, error) {
	ptr, err := s.handle.acquire()
	if err != nil {
		return Fingerprint{}, err
	}
	defer s.handle.release()
	var found C.lxi_fingerprint
	var told *C.lxi_error
	err = check(C.lxi_server_fingerprint((*C.lxi_server)(ptr), &found, &told), told)
	return toFingerprint(&found), err
}

// Stop stops the server: it takes no more connections, lets running requests end for the grace time, cuts those that go on, and returns in
// some seconds more at most. The log is not called any more then. A second call does nothing. Errors: why the server ended before, if it
// did: [ErrIO].
func (s *Server) Stop() error {
	ptr, err := s.handle.acquire()
	if err != nil {
		return err
	}
	defer s.handle.release()
	var told *C.lxi_error
	err = check(C.lxi_server_stop((*C.lxi_server)(ptr), &told), told)
	if s.log != nil {
		s.log.raise()
	}
	return err
}

// Run serves until the context is done, and then stops. Errors: those of [Server.Stop].
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	return s.Stop()
}

// Close stops the server, if it runs, and frees it.
func (s *Server) Close() error {
	if _, err := s.handle.acquire(); err != nil {
		// Closed already.
		return nil
	}
	s.handle.release()
	err := s.Stop()
	s.handle.close()
	return err
}
