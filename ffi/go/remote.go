package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"unsafe"
)

// Remote is a server of images, or a static tree. Nothing that it says is believed: images are checked when they arrive. It has a
// Close method.
type Remote struct {
	handle *handle
}

// ClientOptions say how a server is spoken to. Nil, or the zero value: TLS only, the proxy of the environment, the authorities of
// the system.
type ClientOptions struct {
	// AllowHTTP lets plain HTTP be spoken with other machines.
	AllowHTTP bool
	// AllowLocal lets redirects of another host lead to this machine and its local network.
	AllowLocal bool
	// NoProxy uses no proxy, whatever the environment says.
	NoProxy bool
	// Proxy is for all hosts but this one, such as socks5://host:1080; empty for that of the environment.
	Proxy string
	// UserAgent is empty for this library's.
	UserAgent string
	// Certificate and Key are a client certificate in PEM. Settings have one of their own.
	Certificate, Key string
	// Secret is that of a private image on an LXD or Incus server.
	Secret string
	// Username is the user of a registry, with Password, which is never part of an error; empty for what the remote says.
	Username, Password string
	// Limits on answers: redirects, headers, idle, total, remote_index, download.
	Limits *Limits
}

func (c *call) clientOptions(options *ClientOptions) (*C.lxi_client_options, func(), error) {
	given := one[C.lxi_client_options](&c.arena)
	given.size = C.sizeof_lxi_client_options
	if options == nil {
		return given, func() {}, nil
	}
	limits, done, err := options.Limits.borrow()
	if err != nil {
		return nil, nil, err
	}
	given.limits = limits
	given.flags = flags(
		flag{options.AllowHTTP, C.LXI_CLIENT_ALLOW_HTTP},
		flag{options.AllowLocal, C.LXI_CLIENT_ALLOW_LOCAL},
		flag{options.NoProxy, C.LXI_CLIENT_NO_PROXY},
	)
	given.proxy = c.str(options.Proxy)
	given.user_agent = c.str(options.UserAgent)
	given.certificate = c.str(options.Certificate)
	given.key = c.str(options.Key)
	given.secret = c.str(options.Secret)
	given.username = c.str(options.Username)
	given.password = c.str(options.Password)
	return given, done, nil
}

// Connect connects to a server by its address. Nothing is sent yet. Errors: [ErrInvalidInput] for an invalid URL, and for plain HTTP that
// is not allowed; [ErrUnsupported] for an unknown protocol; [ErrMalformed] for a certificate that is not PEM.
func Connect(address RemoteAddress, options *ClientOptions) (*Remote, error) {
	c := begin(context.Background())
	defer c.end()
	given, done, err := c.clientOptions(options)
	if err != nil {
		return nil, err
	}
	defer done()
	var remote *C.lxi_remote
	var told *C.lxi_error
	if err := c.check(C.lxi_remote_connect(c.address(address), given, &remote, &told), told); err != nil {
		return nil, err
	}
	return ownRemote(remote), nil
}

func ownRemote(remote *C.lxi_remote) *Remote {
	return &Remote{own("remote", unsafe.Pointer(remote), func() { C.lxi_remote_free(remote) })}
}

// Close ends the connection, when calls that are under way have ended. It never fails.
func (r *Remote) Close() error {
	r.handle.close()
	return nil
}

// use makes a call with the remote.
func (r *Remote) use(ctx context.Context, work func(*call, *C.lxi_remote) error) error {
	ptr, err := r.handle.acquire()
	if err != nil {
		return err
	}
	defer r.handle.release()
	c := begin(ctx)
	defer c.end()
	return work(c, (*C.lxi_remote)(ptr))
}

// Wanted says which image a reference means. Nil, or the zero value: a container's, for this machine.
type Wanted struct {
	// Type is what an alias must have; 0 for containers.
	Type Type
	// Architectures are the machines that an alias may mean, best first, by any of their names; none for this one.
	Architectures []string
	// AnyArchitecture takes an alias for any machine.
	AnyArchitecture bool
	// NoSuggestions spares a server the request for the whole list that the hint of [ErrNotFound] may cost.
	NoSuggestions bool
}

// Resolve finds the image that reference names there now: an alias, a fingerprint, or the first digits of one. What the server does not
// say stays empty. Errors: [ErrNotFound], whose hint names other machines or similar aliases; [ErrAmbiguous]; [ErrUnsupported] for an image
// whose fingerprint is known only after its download; [ErrRemote]; [ErrMalformed]; [ErrLimitExceeded]; [ErrCancelled].
func (r *Remote) Resolve(ctx context.Context, reference string, wanted *Wanted) (*StoredImage, error) {
	var image *C.lxi_stored_image
	err := r.use(ctx, func(c *call, remote *C.lxi_remote) error {
		given := one[C.lxi_wanted](&c.arena)
		given.size = C.sizeof_lxi_wanted
		if wanted != nil {
			given.image_type = C.lxi_image_type(wanted.Type)
			given.architectures, given.architectures_len = c.strs(wanted.Architectures)
			if wanted.AnyArchitecture {
				given.flags |= C.LXI_WANTED_ANY_ARCHITECTURE
			}
			if wanted.NoSuggestions {
				given.flags |= C.LXI_WANTED_NO_SUGGESTIONS
			}
		}
		var told *C.lxi_error
		return c.check(C.lxi_remote_resolve(remote, str(reference), given, c.monitor, &image, &told), told)
	})
	if err != nil {
		return nil, err
	}
	return toStoredImage(image)
}

// Images gives the images there that this client may see and that meet all filters, which are those of [Store.List]. Entries that can't be
// used are omissions of the context. Errors: [ErrInvalidInput] for a filter that is none; [ErrUnsupported] where there is no list;
// [ErrRemote]; [ErrMalformed]; [ErrLimitExceeded]; [ErrCancelled].
func (r *Remote) Images(ctx context.Context, filters ...string) (*Images, error) {
	var cursor *C.lxi_image_cursor
	err := r.use(ctx, func(c *call, remote *C.lxi_remote) error {
		given, count := c.strs(filters)
		var told *C.lxi_error
		return c.check(C.lxi_remote_images(remote, given, count, c.monitor, &cursor, &told), told)
	})
	if err != nil {
		return nil, err
	}
	return ownImages(cursor), nil
}

// UploadOptions say how an image is sent to a server. Nil, or the zero value: private, without an alias.
type UploadOptions struct {
	// Aliases that it gets on the server.
	Aliases []Alias
	// Properties win over those of the store.
	Properties Properties
	// CopyAliases also gives it the aliases that it has in the store.
	CopyAliases bool
	// ReuseAliases moves aliases that are taken on the server, instead of failing.
	ReuseAliases bool
	// ReplaceImages deletes an image on the server that loses its last alias to it.
	ReplaceImages bool
	// Public lets clients read it there that have not authenticated.
	Public bool
}

// Upload sends an image of a store, with its properties, to an LXD or Incus server, which must trust this client. An image that the
// server has already gets what the options say, and its bytes are not sent. Errors: [ErrUnsupported] for a remote that is no such server;
// [ErrNotFound] for an image that is not in the store; [ErrAlreadyExists] for an alias that is taken; [ErrMismatch] when other bytes arrived;
// [ErrRemote], also when it does not trust this client; [ErrCancelled].
func (r *Remote) Upload(ctx context.Context, store *Store, fingerprint Fingerprint, options *UploadOptions) error {
	ptr, err := store.handle.acquire()
	if err != nil {
		return err
	}
	defer store.handle.release()
	return r.use(ctx, func(c *call, remote *C.lxi_remote) error {
		given := one[C.lxi_upload_options](&c.arena)
		given.size = C.sizeof_lxi_upload_options
		given.monitor = c.monitor
		if options != nil {
			given.flags = flags(
				flag{options.CopyAliases, C.LXI_UPLOAD_COPY_ALIASES},
				flag{options.ReuseAliases, C.LXI_UPLOAD_REUSE_ALIASES},
				flag{options.ReplaceImages, C.LXI_UPLOAD_REPLACE_IMAGES},
				flag{options.Public, C.LXI_UPLOAD_PUBLIC},
			)
			given.aliases, given.aliases_len = c.aliases(options.Aliases)
			given.properties, given.properties_len = c.pairs(options.Properties)
		}
		of := fingerprint.c()
		var told *C.lxi_error
		return c.check(C.lxi_remote_upload(remote, (*C.lxi_store)(ptr), &of, given, &told), told)
	})
}

// aliases are names in structures.
func (c *call) aliases(list []Alias) (*C.lxi_alias, C.size_t) {
	first, all := many[C.lxi_alias](&c.arena, len(list))
	for i, alias := range list {
		all[i].name = c.str(alias.Name)
		all[i].description = c.str(alias.Description)
	}
	return first, C.size_t(len(all))
}
