package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"unsafe"
)

// Settings are those of a user: remotes by name and a client certificate, in one directory that any number of processes may use
// and change. They have a Close method.
type Settings struct {
	handle *handle
}

// RemoteAddress is a server of images: where it is and how it is spoken to.
type RemoteAddress struct {
	// URL is the address, such as https://host:8443; without a scheme it is https, and has LXD's port. A simplestreams server may
	// be a directory: file:///DIR. Told without secrets.
	URL string
	// Protocol is lxd, incus, simplestreams or oci, a registry; for [Connect] also direct, the URL of one image. Empty for lxd.
	Protocol string
	// Certificate is what the server must show, in PEM, where no known authority signed it.
	Certificate string
	// Public uses public images only, and shows no client certificate. Simplestreams servers always are.
	Public bool
	// AllowHTTP lets plain HTTP be spoken with it, although it is another machine.
	AllowHTTP bool
	// Username is the user of a registry, and PasswordFile holds the password of that user.
	Username, PasswordFile string
	// AuthFile is the file of docker or podman that holds the credentials for a registry; empty for those of this user.
	AuthFile string
}

// NamedRemote is a remote of settings.
type NamedRemote struct {
	// Name is what users call it.
	Name string
	RemoteAddress
}

// OpenSettings opens the settings in a directory, which is made when something is written. Empty is the directory of this user:
// LXD_IMAGE_CONFIG, else lxd-image in the XDG configuration directory. Errors: [ErrInvalidInput], also where the environment
// names no directory.
func OpenSettings(directory string) (*Settings, error) {
	var settings *C.lxi_settings
	var told *C.lxi_error
	if err := check(C.lxi_settings_open(str(directory), &settings, &told), told); err != nil {
		return nil, err
	}
	return &Settings{own("settings", unsafe.Pointer(settings), func() { C.lxi_settings_free(settings) })}, nil
}

// Close frees the settings. The files stay. It never fails.
func (s *Settings) Close() error {
	s.handle.close()
	return nil
}

// use makes a call with the settings.
func (s *Settings) use(ctx context.Context, work func(*call, *C.lxi_settings) error) error {
	ptr, err := s.handle.acquire()
	if err != nil {
		return err
	}
	defer s.handle.release()
	c := begin(ctx)
	defer c.end()
	return work(c, (*C.lxi_settings)(ptr))
}

func (c *call) address(address RemoteAddress) *C.lxi_known_remote {
	given := one[C.lxi_known_remote](&c.arena)
	given.size = C.sizeof_lxi_known_remote
	if address.Public {
		given.flags |= C.LXI_REMOTE_PUBLIC
	}
	if address.AllowHTTP {
		given.flags |= C.LXI_REMOTE_ALLOW_HTTP
	}
	given.url = c.str(address.URL)
	given.protocol = c.str(address.Protocol)
	given.certificate = c.str(address.Certificate)
	given.username = c.str(address.Username)
	given.password_file = c.str(address.PasswordFile)
	given.auth_file = c.str(address.AuthFile)
	return given
}

// Remotes are all remotes, sorted by name. Without a file these are the well-known public servers. Errors: [ErrMalformed] when the file
// can't be parsed, [ErrIO].
func (s *Settings) Remotes() ([]NamedRemote, error) {
	var remotes []NamedRemote
	err := s.use(context.Background(), func(c *call, settings *C.lxi_settings) error {
		var list *C.lxi_remote_list
		var told *C.lxi_error
		if err := c.check(C.lxi_settings_remotes(settings, &list, &told), told); err != nil {
			return err
		}
		defer C.lxi_remote_list_free(list)
		var count C.size_t
		if err := check(C.lxi_remote_list_len(list, &count, &told), told); err != nil {
			return err
		}
		for i := C.size_t(0); i < count; i++ {
			known := C.lxi_known_remote{size: C.sizeof_lxi_known_remote}
			var name C.lxi_str
			if err := check(C.lxi_remote_list_at(list, i, &name, &known, &told), told); err != nil {
				return err
			}
			remotes = append(remotes, NamedRemote{text(name), RemoteAddress{
				URL:          text(known.url),
				Protocol:     text(known.protocol),
				Certificate:  text(known.certificate),
				Public:       known.flags&C.LXI_REMOTE_PUBLIC != 0,
				AllowHTTP:    known.flags&C.LXI_REMOTE_ALLOW_HTTP != 0,
				Username:     text(known.username),
				PasswordFile: text(known.password_file),
				AuthFile:     text(known.auth_file),
			}})
		}
		return nil
	})
	return remotes, err
}

// Add adds a remote. Nothing is asked of the server: [FirstUse] says whether it can be trusted. Errors: [ErrAlreadyExists];
// [ErrInvalidInput] for a name with a colon, a slash or a blank, for local, and for an invalid URL; [ErrUnsupported] for an unknown
// protocol; [ErrMalformed] for a certificate that is not PEM; [ErrIO].
func (s *Settings) Add(name string, address RemoteAddress) error {
	return s.use(context.Background(), func(c *call, settings *C.lxi_settings) error {
		var told *C.lxi_error
		return c.check(C.lxi_settings_add(settings, str(name), c.address(address), &told), told)
	})
}

// Remove removes a remote. Images that came from there stay, and keep their source. Errors: [ErrNotFound], [ErrMalformed], [ErrIO].
func (s *Settings) Remove(name string) error {
	return s.use(context.Background(), func(c *call, settings *C.lxi_settings) error {
		var told *C.lxi_error
		return c.check(C.lxi_settings_remove(settings, str(name), &told), told)
	})
}

// Rename gives a remote another name. Errors: [ErrNotFound], [ErrAlreadyExists], [ErrInvalidInput], [ErrMalformed], [ErrIO].
func (s *Settings) Rename(name, newName string) error {
	return s.use(context.Background(), func(c *call, settings *C.lxi_settings) error {
		var told *C.lxi_error
		return c.check(C.lxi_settings_rename(settings, str(name), str(newName), &told), told)
	})
}

// SetURL changes the URL of a remote. A pinned certificate stays pinned. Errors: [ErrNotFound], [ErrInvalidInput] for an invalid URL,
// [ErrMalformed], [ErrIO].
func (s *Settings) SetURL(name, url string) error {
	return s.use(context.Background(), func(c *call, settings *C.lxi_settings) error {
		var told *C.lxi_error
		return c.check(C.lxi_settings_set_url(settings, str(name), str(url), &told), told)
	})
}

// Certificate is the client certificate in PEM, which the owner of a server adds to the trusted ones. Made, with its key, if there is
// none yet; the key never leaves the directory. Errors: [ErrMalformed] when the files can't be parsed, [ErrIO].
func (s *Settings) Certificate() (string, error) {
	var pem []byte
	err := s.use(context.Background(), func(c *call, settings *C.lxi_settings) error {
		var buffer *C.lxi_buffer
		var told *C.lxi_error
		if err := c.check(C.lxi_settings_certificate(settings, &buffer, &told), told); err != nil {
			return err
		}
		var err error
		pem, err = taken(buffer)
		return err
	})
	return string(pem), err
}

// Connect connects to the remote with this name, with the client certificate of the settings unless it is public. Nothing is sent yet.
// Errors: [ErrNotFound], whose hint names what is near; [ErrMalformed]; [ErrIO].
func (s *Settings) Connect(name string, options *ClientOptions) (*Remote, error) {
	var remote *C.lxi_remote
	err := s.use(context.Background(), func(c *call, settings *C.lxi_settings) error {
		given, done, err := c.clientOptions(options)
		if err != nil {
			return err
		}
		defer done()
		var told *C.lxi_error
		return c.check(C.lxi_settings_connect(settings, str(name), given, &remote, &told), told)
	})
	if err != nil {
		return nil, err
	}
	return ownRemote(remote), nil
}

// Trust is what is known of a server before it is trusted.
type Trust uint32

// The kinds of trust.
const (
	// TrustPlain: it is spoken to without TLS, because it is this machine or because that was allowed.
	TrustPlain Trust = C.LXI_TRUST_PLAIN
	// TrustVouched: a known authority signed its certificate, or it is the pinned one.
	TrustVouched Trust = C.LXI_TRUST_VOUCHED
	// TrustUnknown: no authority signed its certificate. A person must compare its fingerprint with what the server's owner says.
	TrustUnknown Trust = C.LXI_TRUST_UNKNOWN
)

// FirstContact is what a server shows when it is asked for the first time.
type FirstContact struct {
	// Trust says whether it can be trusted.
	Trust Trust
	// Certificate is the server's in PEM, to be pinned if its owner confirms it; only with TrustUnknown.
	Certificate string
	// Fingerprint is the certificate's.
	Fingerprint Fingerprint
}

// FirstUse asks a server for its certificate, and says whether it can be trusted: trust on first use, as lxc remote add has it.
// Errors: [ErrRemote] when it can't be reached, or shows another certificate than the pinned one; [ErrInvalidInput] for plain HTTP that is
// not allowed; [ErrCancelled].
func FirstUse(ctx context.Context, address RemoteAddress, options *ClientOptions) (*FirstContact, error) {
	c := begin(ctx)
	defer c.end()
	given, done, err := c.clientOptions(options)
	if err != nil {
		return nil, err
	}
	defer done()
	var trust C.lxi_trust
	var pem *C.lxi_buffer
	var print C.lxi_fingerprint
	var told *C.lxi_error
	status := C.lxi_remote_first_use(c.address(address), given, c.monitor, &trust, &pem, &print, &told)
	if err := c.check(status, told); err != nil {
		return nil, err
	}
	found := &FirstContact{Trust: Trust(trust)}
	if pem == nil {
		return found, nil
	}
	certificate, err := taken(pem)
	found.Certificate, found.Fingerprint = string(certificate), toFingerprint(&print)
	return found, err
}
