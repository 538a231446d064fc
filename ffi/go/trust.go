package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"time"
	"unsafe"
)

// SecretKey is an Ed25519 key that signs. Nothing of it is ever part of an error. It has a Close method.
type SecretKey struct {
	handle *handle
}

// PublicKey is an Ed25519 key that verifies. It has a Close method.
type PublicKey struct {
	handle *handle
}

func ownSecretKey(made **C.lxi_secret_key, err error) (*SecretKey, error) {
	if err != nil {
		return nil, err
	}
	key := *made
	return &SecretKey{own("secret key", unsafe.Pointer(key), func() { C.lxi_secret_key_free(key) })}, nil
}

func ownPublicKey(made **C.lxi_public_key, err error) (*PublicKey, error) {
	if err != nil {
		return nil, err
	}
	key := *made
	return &PublicKey{own("public key", unsafe.Pointer(key), func() { C.lxi_public_key_free(key) })}, nil
}

// GenerateKey makes a new key, as minisign -G does. Errors: [ErrIO] if the system has no randomness.
func GenerateKey() (*SecretKey, error) {
	var key *C.lxi_secret_key
	var told *C.lxi_error
	return ownSecretKey(&key, check(C.lxi_secret_key_generate(&key, &told), told))
}

// ParseSecretKey parses a key: the text of a secret key file of minisign, or PEM of PKCS#8. The passphrase may be nil; it is used only for
// a key that is encrypted, which takes seconds and the memory that the file says, 1 GiB for keys of minisign.
//
// Errors: [ErrInvalidInput] for an encrypted key without a passphrase; [ErrUntrusted] for a wrong passphrase or a damaged key;
// [ErrMalformed]; [ErrUnsupported]; [ErrLimitExceeded].
func ParseSecretKey(content, passphrase []byte) (*SecretKey, error) {
	var key *C.lxi_secret_key
	var told *C.lxi_error
	return ownSecretKey(&key, check(C.lxi_secret_key_parse(slice(content), slice(passphrase), &key, &told), told))
}

// ReadSecretKey reads a key from a file. Errors: as [ParseSecretKey]; [ErrIO].
func ReadSecretKey(path string, passphrase []byte) (*SecretKey, error) {
	var key *C.lxi_secret_key
	var told *C.lxi_error
	return ownSecretKey(&key, check(C.lxi_secret_key_read(str(path), slice(passphrase), &key, &told), told))
}

// Text is the key as the text of a secret key file of minisign, encrypted unless the passphrase is empty. Errors: [ErrUnsupported] for a key
// that was read from PEM; [ErrIO] if the system has no randomness.
func (k *SecretKey) Text(passphrase []byte) ([]byte, error) {
	ptr, done, err := k.handle.read()
	if err != nil {
		return nil, err
	}
	defer done()
	var buffer *C.lxi_buffer
	var told *C.lxi_error
	if err := check(C.lxi_secret_key_to_text((*C.lxi_secret_key)(ptr), slice(passphrase), &buffer, &told), told); err != nil {
		return nil, err
	}
	return taken(buffer)
}

// Public is the key that verifies what this one signs. Errors: [ErrInvalidInput] when it is closed.
func (k *SecretKey) Public() (*PublicKey, error) {
	ptr, done, err := k.handle.read()
	if err != nil {
		return nil, err
	}
	defer done()
	var key *C.lxi_public_key
	var told *C.lxi_error
	return ownPublicKey(&key, check(C.lxi_secret_key_public((*C.lxi_secret_key)(ptr), &key, &told), told))
}

// Close frees the key. It never fails.
func (k *SecretKey) Close() error {
	k.handle.close()
	return nil
}

// ParsePublicKey parses a key: the file that minisign -G writes, its second line alone, or PEM. Errors: [ErrMalformed]; [ErrUnsupported] for a
// key of another algorithm.
func ParsePublicKey(content []byte) (*PublicKey, error) {
	var key *C.lxi_public_key
	var told *C.lxi_error
	return ownPublicKey(&key, check(C.lxi_public_key_parse(slice(content), &key, &told), told))
}

// ReadPublicKey reads a key from a file. Errors: as [ParsePublicKey]; [ErrIO]; [ErrLimitExceeded].
func ReadPublicKey(path string) (*PublicKey, error) {
	var key *C.lxi_public_key
	var told *C.lxi_error
	return ownPublicKey(&key, check(C.lxi_public_key_read(str(path), &key, &told), told))
}

// Text is the key as text: the two lines of minisign, or PEM for a key without a number. Errors: [ErrInvalidInput] when it is closed.
func (k *PublicKey) Text() ([]byte, error) {
	ptr, done, err := k.handle.read()
	if err != nil {
		return nil, err
	}
	defer done()
	var buffer *C.lxi_buffer
	var told *C.lxi_error
	if err := check(C.lxi_public_key_to_text((*C.lxi_public_key)(ptr), &buffer, &told), told); err != nil {
		return nil, err
	}
	return taken(buffer)
}

// ID is the name of the key, as minisign prints it, or 64 digits for another key. It identifies a key and proves nothing. Empty when the key is
// closed.
func (k *PublicKey) ID() string {
	ptr, done, err := k.handle.read()
	if err != nil {
		return ""
	}
	defer done()
	var id C.lxi_str
	C.lxi_public_key_id((*C.lxi_public_key)(ptr), &id, nil)
	return text(id)
}

// Close frees the key. It never fails.
func (k *PublicKey) Close() error {
	k.handle.close()
	return nil
}

// secretKeys are an array of handles, which the returned function gives back.
func (c *call) secretKeys(keys []*SecretKey) (**C.lxi_secret_key, C.size_t, func(), error) {
	first, all := many[*C.lxi_secret_key](&c.arena, len(keys))
	var held handles
	for i, key := range keys {
		ptr, err := held.read(key.handle)
		if err != nil {
			return nil, 0, nil, err
		}
		all[i] = (*C.lxi_secret_key)(ptr)
	}
	return first, C.size_t(len(keys)), held.release, nil
}

// publicKeys are an array of handles, which the returned function gives back.
func (c *call) publicKeys(keys []*PublicKey) (**C.lxi_public_key, C.size_t, func(), error) {
	first, all := many[*C.lxi_public_key](&c.arena, len(keys))
	var held handles
	for i, key := range keys {
		ptr, err := held.read(key.handle)
		if err != nil {
			return nil, 0, nil, err
		}
		all[i] = (*C.lxi_public_key)(ptr)
	}
	return first, C.size_t(len(keys)), held.release, nil
}

// handles are several that one call reads.
type handles struct {
	done []func()
}

// read acquires one more; after an error those before are given back.
func (h *handles) read(handle *handle) (unsafe.Pointer, error) {
	ptr, done, err := handle.read()
	if err != nil {
		h.release()
		return nil, err
	}
	h.done = append(h.done, done)
	return ptr, nil
}

func (h *handles) release() {
	for _, done := range h.done {
		done()
	}
	h.done = nil
}

// Statement is a signed statement about an image: an in-toto statement in a DSSE envelope. What it says is a claim of whoever signed it.
type Statement struct {
	// Digest is the sha256 of the envelope in hex, which names it in a store.
	Digest string
	// PredicateType is a URI.
	PredicateType string
	// Predicate is a JSON object.
	Predicate string
	// Envelope is the statement with its signatures in JSON, on one line.
	Envelope string
}

// StatementOptions say what is stated about an image. Nil, or the zero value: that the signer vouches for it.
type StatementOptions struct {
	// PredicateType is a URI such as https://spdx.dev/Document, given together with Predicate.
	PredicateType string
	// Predicate is a JSON object of any content.
	Predicate []byte
}

func (c *call) statementOptions(options *StatementOptions) *C.lxi_statement_options {
	given := one[C.lxi_statement_options](&c.arena)
	given.size = C.sizeof_lxi_statement_options
	given.monitor = c.monitor
	if options != nil {
		given.predicate_type = c.str(options.PredicateType)
		given.predicate = c.arena.bytes(options.Predicate)
	}
	return given
}

// toStatements copies statements, and frees them.
func toStatements(found *C.lxi_statements) ([]Statement, error) {
	defer C.lxi_statements_free(found)
	var count C.size_t
	var told *C.lxi_error
	if err := check(C.lxi_statements_len(found, &count, &told), told); err != nil {
		return nil, err
	}
	statements := make([]Statement, 0, int(count))
	for i := C.size_t(0); i < count; i++ {
		one := C.lxi_statement{size: C.sizeof_lxi_statement}
		if err := check(C.lxi_statements_at(found, i, &one, &told), told); err != nil {
			return nil, err
		}
		statements = append(statements, Statement{text(one.digest), text(one.predicate_type), text(one.predicate), text(one.envelope)})
	}
	return statements, nil
}

// BundleStatements are statements as a file of in-toto: one envelope on each line.
func BundleStatements(statements []Statement) []byte {
	var bundle []byte
	for _, statement := range statements {
		bundle = append(append(bundle, statement.Envelope...), '\n')
	}
	return bundle
}

// parsed are statements as the library has them, to be freed; nil for none.
func parsed(statements []Statement) (*C.lxi_statements, error) {
	if len(statements) == 0 {
		return nil, nil
	}
	var found *C.lxi_statements
	var told *C.lxi_error
	err := check(C.lxi_statements_parse(slice(BundleStatements(statements)), nil, &found, &told), told)
	return found, err
}

// ParseStatements parses statements: one envelope in JSON, or a bundle with one on each line. Parsed is not verified. Errors: [ErrMalformed];
// [ErrUnsupported] for another kind of payload; [ErrLimitExceeded].
func ParseStatements(content []byte, limits *Limits) ([]Statement, error) {
	borrowed, done, err := limits.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	var found *C.lxi_statements
	var told *C.lxi_error
	if err := check(C.lxi_statements_parse(slice(content), borrowed, &found, &told), told); err != nil {
		return nil, err
	}
	return toStatements(found)
}

// SignStatement signs a statement about the image with this fingerprint, with all keys. Errors: [ErrInvalidInput] without a key, and for a type
// that is no URI; [ErrMalformed] for a predicate that is no JSON object.
func SignStatement(fingerprint Fingerprint, options *StatementOptions, keys ...*SecretKey) (*Statement, error) {
	c := begin(context.Background())
	defer c.end()
	first, count, done, err := c.secretKeys(keys)
	if err != nil {
		return nil, err
	}
	defer done()
	of := fingerprint.c()
	var signed *C.lxi_statements
	var told *C.lxi_error
	if err := c.check(C.lxi_statement_sign(&of, first, count, c.statementOptions(options), &signed, &told), told); err != nil {
		return nil, err
	}
	return only(signed)
}

func only(signed *C.lxi_statements) (*Statement, error) {
	all, err := toStatements(signed)
	if err != nil {
		return nil, err
	}
	return &all[0], nil
}

// Sign signs a statement about an image of the store, with the fingerprint and the sha256 of each of its files as subjects, and keeps it beside
// the image. Reads the image's files. Errors: as [SignStatement] and [Store.AttachStatements]; [ErrMismatch] if the bytes in the store are not
// those of the image; [ErrCancelled].
func (s *Store) Sign(ctx context.Context, fingerprint Fingerprint, options *StatementOptions, keys ...*SecretKey) (*Statement, error) {
	c, store, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	first, count, done, err := c.secretKeys(keys)
	if err != nil {
		return nil, err
	}
	defer done()
	of := fingerprint.c()
	var signed *C.lxi_statements
	var told *C.lxi_error
	if err := c.check(C.lxi_store_sign(store, &of, first, count, c.statementOptions(options), &signed, &told), told); err != nil {
		return nil, err
	}
	return only(signed)
}

// Statements are those about an image of the store. Nobody has verified them. Errors: [ErrNotFound]; [ErrMalformed] when the catalog is damaged;
// [ErrIO].
func (s *Store) Statements(fingerprint Fingerprint) ([]Statement, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	of := fingerprint.c()
	var found *C.lxi_statements
	var told *C.lxi_error
	if err := c.check(C.lxi_store_statements(store, &of, &found, &told), told); err != nil {
		return nil, err
	}
	return toStatements(found)
}

// AttachStatements keeps statements about an image beside it: servers give them out, and pushes, trees and bundles take them along. Those that
// are there already change nothing. Errors: [ErrNotFound]; [ErrMismatch] for a statement about another image; [ErrLimitExceeded]; [ErrBusy];
// [ErrIO].
func (s *Store) AttachStatements(fingerprint Fingerprint, statements ...Statement) error {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	given, err := parsed(statements)
	if err != nil || given == nil {
		return err
	}
	defer C.lxi_statements_free(given)
	of := fingerprint.c()
	var told *C.lxi_error
	return c.check(C.lxi_store_attach_statements(store, &of, given, &told), told)
}

// SignedBy says whether the statement is about the image with this fingerprint, and really signed by this key. Errors: [ErrMalformed] for what is
// no statement.
func (s Statement) SignedBy(fingerprint Fingerprint, key *PublicKey) (bool, error) {
	ptr, done, err := key.handle.read()
	if err != nil {
		return false, err
	}
	defer done()
	given, err := parsed([]Statement{s})
	if err != nil {
		return false, err
	}
	defer C.lxi_statements_free(given)
	of := fingerprint.c()
	var yes C.bool
	var told *C.lxi_error
	err = check(C.lxi_statements_signed_by(given, 0, &of, (*C.lxi_public_key)(ptr), &yes, &told), told)
	return bool(yes), err
}

// VerifyStatements says how many of the statements are about the image with this fingerprint, of this type unless that is empty, and signed by at
// least one of the keys. Errors: [ErrUntrusted] if none is.
func VerifyStatements(statements []Statement, fingerprint Fingerprint, predicateType string, keys ...*PublicKey) (int, error) {
	c := begin(context.Background())
	defer c.end()
	first, count, done, err := c.publicKeys(keys)
	if err != nil {
		return 0, err
	}
	defer done()
	if len(statements) == 0 {
		return 0, kindError(ErrUntrusted, "there is no statement about the image "+fingerprint.String()[:12], nil)
	}
	given, err := parsed(statements)
	if err != nil {
		return 0, err
	}
	defer C.lxi_statements_free(given)
	of := fingerprint.c()
	var signed C.size_t
	var told *C.lxi_error
	err = c.check(C.lxi_statements_verify(given, &of, str(predicateType), first, count, &signed, &told), told)
	return int(signed), err
}

// Policy are rules about what images need before a store makes them visible. It has a Close method.
type Policy struct {
	handle *handle
}

func ownPolicy(made **C.lxi_policy, err error) (*Policy, error) {
	if err != nil {
		return nil, err
	}
	policy := *made
	return &Policy{own("policy", unsafe.Pointer(policy), func() { C.lxi_policy_free(policy) })}, nil
}

// lend gives the pointer of a handle that may be nil, for a call.
func lend(h *handle) (unsafe.Pointer, func(), error) {
	if h == nil {
		return nil, func() {}, nil
	}
	return h.read()
}

func (s *Settings) lend() (*C.lxi_settings, func(), error) {
	if s == nil {
		return nil, func() {}, nil
	}
	ptr, done, err := lend(s.handle)
	return (*C.lxi_settings)(ptr), done, err
}

// ReadPolicy reads a policy from a file in TOML, as TRUST.md describes it. Files of keys that it names are relative to its directory, and names of
// remotes are those of the settings, which may be nil if it names none. Errors: [ErrInvalidInput] for what is no policy, unknown keys and unknown
// remotes; those of [ReadPublicKey]; [ErrIO]; [ErrLimitExceeded].
func ReadPolicy(path string, settings *Settings) (*Policy, error) {
	given, done, err := settings.lend()
	if err != nil {
		return nil, err
	}
	defer done()
	var policy *C.lxi_policy
	var told *C.lxi_error
	return ownPolicy(&policy, check(C.lxi_policy_read(str(path), given, &policy, &told), told))
}

// ParsePolicy parses a policy; files of keys are looked for in directory. Errors: as [ReadPolicy].
func ParsePolicy(content, directory string, settings *Settings) (*Policy, error) {
	given, done, err := settings.lend()
	if err != nil {
		return nil, err
	}
	defer done()
	var policy *C.lxi_policy
	var told *C.lxi_error
	return ownPolicy(&policy, check(C.lxi_policy_parse(str(content), str(directory), given, &policy, &told), told))
}

// Close frees the policy. A store that was opened with it keeps its own. It never fails.
func (p *Policy) Close() error {
	p.handle.close()
	return nil
}

// Candidate is an image that is judged.
type Candidate struct {
	// Fingerprint must be verified: [Image.Verify].
	Fingerprint Fingerprint
	// Server is the address that it comes from; empty for files.
	Server string
	// Aliases are all that it will have.
	Aliases []string
	// Properties are the image's.
	Properties Properties
	// Statements are those about it; their signatures need not be verified yet.
	Statements []Statement
	// ListKey is the key that signed the list that named it, if that was verified.
	ListKey string
}

// Admission is why an image was admitted, and who vouches for it.
type Admission struct {
	// Admitted says whether a policy answered: Rule and Vouched are from it.
	Admitted bool
	// Rule is the one that decided; empty if no rule was for the image.
	Rule string
	// Vouched says who vouched, one sentence for each.
	Vouched []string
	// AdmittedAt is when the policy answered, for an image of a store.
	AdmittedAt time.Time
	// ListKey is the key that signed the list of the server that the image came from.
	ListKey string
	// ListSignedAt is when that list was signed, if its signature tells, and ListNotedAt when the store noted that.
	ListSignedAt, ListNotedAt time.Time
}

// toAdmission copies an admission, and frees it.
func toAdmission(found *C.lxi_admission) (*Admission, error) {
	defer C.lxi_admission_free(found)
	info := C.lxi_admission_info{size: C.sizeof_lxi_admission_info}
	var told *C.lxi_error
	if err := check(C.lxi_admission_get(found, &info, &told), told); err != nil {
		return nil, err
	}
	admission := &Admission{
		Admitted:     bool(info.admitted),
		Rule:         text(info.rule),
		AdmittedAt:   moment(info.admitted_at),
		ListKey:      text(info.list_key),
		ListSignedAt: moment(info.list_signed_at),
		ListNotedAt:  moment(info.list_noted_at),
	}
	for i := C.size_t(0); i < info.vouched; i++ {
		var sentence C.lxi_str
		if err := check(C.lxi_admission_vouched_at(found, i, &sentence, &told), told); err != nil {
			return nil, err
		}
		admission.Vouched = append(admission.Vouched, text(sentence))
	}
	return admission, nil
}

// Admit judges an image that is in no store. Errors: [ErrUntrusted], with the rule and what is missing.
func (p *Policy) Admit(candidate Candidate) (*Admission, error) {
	ptr, done, err := p.handle.read()
	if err != nil {
		return nil, err
	}
	defer done()
	c := begin(context.Background())
	defer c.end()
	statements, err := parsed(candidate.Statements)
	if err != nil {
		return nil, err
	}
	defer C.lxi_statements_free(statements)
	given := one[C.lxi_candidate](&c.arena)
	given.size = C.sizeof_lxi_candidate
	given.fingerprint = c.fingerprint(&candidate.Fingerprint)
	given.server = c.str(candidate.Server)
	given.aliases, given.aliases_len = c.strs(candidate.Aliases)
	given.properties, given.properties_len = c.pairs(candidate.Properties)
	given.statements = statements
	given.list_key = c.str(candidate.ListKey)
	var admission *C.lxi_admission
	var told *C.lxi_error
	if err := c.check(C.lxi_policy_admit((*C.lxi_policy)(ptr), given, &admission, &told), told); err != nil {
		return nil, err
	}
	return toAdmission(admission)
}

// AskPolicy judges an image of the store, by what the store keeps about it. Errors: [ErrUntrusted], with the rule and what is missing;
// [ErrNotFound]; [ErrMalformed] when the catalog is damaged; [ErrIO].
func (s *Store) AskPolicy(policy *Policy, fingerprint Fingerprint) (*Admission, error) {
	ptr, done, err := policy.handle.read()
	if err != nil {
		return nil, err
	}
	defer done()
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	of := fingerprint.c()
	var admission *C.lxi_admission
	var told *C.lxi_error
	if err := c.check(C.lxi_store_ask_policy(store, (*C.lxi_policy)(ptr), &of, &admission, &told), told); err != nil {
		return nil, err
	}
	return toAdmission(admission)
}

// Vouched is who vouched for an image of the store when it became visible: the signed list that named it, and what the store's policy answered.
// Errors: [ErrNotFound]; [ErrMalformed] when the catalog is damaged; [ErrIO].
func (s *Store) Vouched(fingerprint Fingerprint) (*Admission, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	of := fingerprint.c()
	var admission *C.lxi_admission
	var told *C.lxi_error
	if err := c.check(C.lxi_store_vouched(store, &of, &admission, &told), told); err != nil {
		return nil, err
	}
	return toAdmission(admission)
}
