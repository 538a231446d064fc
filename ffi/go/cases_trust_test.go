package lxdimage_test

// Steps about keys, statements and policies.

import (
	"os"
	"strings"

	"lxdimage"
)

// trust are the keys and the policy of a case.
type trust struct {
	keys   map[string]*lxdimage.SecretKey
	policy *lxdimage.Policy
}

func (r *runner) endTrust() {
	for _, key := range r.keys {
		key.Close()
	}
	r.keys = map[string]*lxdimage.SecretKey{}
	if r.policy != nil {
		r.policy.Close()
		r.policy = nil
	}
}

func (r *runner) key(words []string) {
	name, file := words[1], words[2]
	var passphrase []byte
	if len(words) > 3 {
		passphrase = []byte(words[3])
	}
	var key *lxdimage.SecretKey
	var err error
	if file == "-" {
		made, err := lxdimage.GenerateKey()
		r.must(err)
		content, err := made.Text(nil)
		r.must(err)
		r.must(made.Close())
		// What is written is read again.
		key, err = lxdimage.ParseSecretKey(content, nil)
		r.must(err)
	} else {
		key, err = lxdimage.ReadSecretKey(file, passphrase)
		if err != nil && len(passphrase) > 0 && strings.Contains(err.Error(), string(passphrase)) {
			r.t.Fatalf("an error tells a secret: %v", err)
		}
		if r.failed(err) {
			return
		}
	}
	public, err := key.Public()
	r.must(err)
	defer public.Close()
	if file != "-" {
		r.line("%s", public.ID())
	}
	content, err := public.Text()
	r.must(err)
	again, err := lxdimage.ParsePublicKey(content)
	r.must(err)
	r.must(again.Close())
	r.must(os.WriteFile(name+".pub", content, 0o666))
	r.keys[name] = key
}

func (r *runner) secretKeys(word string) []*lxdimage.SecretKey {
	var keys []*lxdimage.SecretKey
	for _, name := range names(word) {
		keys = append(keys, r.keys[name])
	}
	return keys
}

func (r *runner) showStatements(statements []lxdimage.Statement) {
	for _, statement := range statements {
		r.line("statement %s %s %s", statement.Digest, quote(statement.PredicateType), quote(statement.Predicate))
	}
}

// sign does `sign`, and with at 2 `sign-file`, whose fingerprint is a word later.
func (r *runner) sign(words []string, at int) {
	var options lxdimage.StatementOptions
	if len(words) > at+2 {
		options.PredicateType, options.Predicate = words[at+2], []byte(words[at+3])
	}
	of, ok := r.fingerprint(words[at])
	if !ok {
		return
	}
	keys := r.secretKeys(words[at+1])
	var signed *lxdimage.Statement
	var err error
	if at == 1 {
		signed, err = r.store.Sign(r.ctx, *of, &options, keys...)
	} else {
		signed, err = lxdimage.SignStatement(*of, &options, keys...)
	}
	if r.failed(err) {
		return
	}
	statements := []lxdimage.Statement{*signed}
	r.showStatements(statements)
	if at == 2 {
		r.append(words[1], string(lxdimage.BundleStatements(statements)))
	}
}

// bundle are the statements of a file; none for "-". False after an error was shown.
func (r *runner) bundle(file string) ([]lxdimage.Statement, bool) {
	if file == "-" {
		return nil, true
	}
	content, err := os.ReadFile(file)
	r.must(err)
	statements, err := lxdimage.ParseStatements(content, r.limits)
	return statements, !r.failed(err)
}

func (r *runner) signed(words []string) {
	of, ok := r.fingerprint(words[1])
	if !ok {
		return
	}
	var keys []*lxdimage.PublicKey
	for _, name := range names(words[3]) {
		key, err := lxdimage.ReadPublicKey(name + ".pub")
		r.must(err)
		defer key.Close()
		keys = append(keys, key)
	}
	kind := words[2]
	if kind == "-" {
		kind = ""
	}
	statements, err := r.store.Statements(*of)
	if r.failed(err) {
		return
	}
	count, err := lxdimage.VerifyStatements(statements, *of, kind, keys...)
	if r.failed(err) {
		return
	}
	r.line("signed %d", count)
	found := 0
	for _, statement := range statements {
		any := false
		for _, key := range keys {
			yes, err := statement.SignedBy(*of, key)
			r.must(err)
			any = any || yes
		}
		if any {
			found++
		}
	}
	if kind == "" && found != count {
		r.t.Fatalf("%d and %d signatures", found, count)
	}
}

func (r *runner) showAdmission(admission *lxdimage.Admission) {
	r.line("rule %s", quote(admission.Rule))
	for _, sentence := range admission.Vouched {
		r.line("vouched %s", quote(sentence))
	}
}

func (r *runner) setPolicy(content string) {
	parsed, err := lxdimage.ParsePolicy(content, ".", nil)
	if r.failed(err) {
		return
	}
	r.must(parsed.Close())
	r.must(os.WriteFile("policy.toml", []byte(content), 0o666))
	policy, err := lxdimage.ReadPolicy("policy.toml", nil)
	r.must(err)
	if r.policy != nil {
		r.must(r.policy.Close())
	}
	r.policy = policy
}

func (r *runner) trustStep(words []string) bool {
	switch words[0] {
	case "key":
		r.key(words)
	case "sign":
		r.sign(words, 1)
	case "sign-file":
		r.sign(words, 2)
	case "signed":
		r.signed(words)
	case "policy":
		r.setPolicy(words[1])
	case "attach":
		of, ok := r.fingerprint(words[1])
		if !ok {
			return true
		}
		if statements, ok := r.bundle(words[2]); ok {
			r.failed(r.store.AttachStatements(*of, statements...))
		}
	case "statements":
		of, ok := r.fingerprint(words[1])
		if !ok {
			return true
		}
		statements, err := r.store.Statements(*of)
		if !r.failed(err) {
			r.showStatements(statements)
		}
	case "judge":
		of, ok := r.fingerprint(words[1])
		if !ok {
			return true
		}
		statements, ok := r.bundle(words[3])
		if !ok {
			return true
		}
		admission, err := r.policy.Admit(lxdimage.Candidate{
			Fingerprint: *of,
			Aliases:     names(words[2]),
			Properties:  lxdimage.Properties{{Key: "os", Value: "Debian"}},
			Statements:  statements,
		})
		if !r.failed(err) {
			r.showAdmission(admission)
		}
	case "ask":
		if of, ok := r.fingerprint(words[1]); ok {
			admission, err := r.store.AskPolicy(r.policy, *of)
			if !r.failed(err) {
				r.showAdmission(admission)
			}
		}
	case "vouched":
		of, ok := r.fingerprint(words[1])
		if !ok {
			return true
		}
		admission, err := r.store.Vouched(*of)
		if r.failed(err) {
			return true
		}
		if !admission.Admitted {
			r.line("not asked")
			return true
		}
		r.showAdmission(admission)
		r.line("at %d", admission.AdmittedAt.Unix())
	case "import-stated":
		statements, ok := r.bundle(words[1])
		if !ok {
			return true
		}
		source, closing := r.files(words[2:])
		defer closing()
		image, err := r.store.Import(r.ctx, source, &lxdimage.ImportOptions{Statements: statements})
		if !r.failed(err) {
			r.showStored(image)
		}
	default:
		return false
	}
	return true
}
