package lxdimage_test

// Steps about templates.

import "lxdimage"

func (r *runner) render(options lxdimage.TemplateOptions, source string, variables *lxdimage.TemplateContext, err error) {
	if r.failed(err) {
		return
	}
	defer variables.Close()
	options.Limits = r.limits
	template, err := lxdimage.ParseTemplate([]byte(source), &options)
	if r.failed(err) {
		return
	}
	defer template.Close()
	text, err := template.Render(variables, r.limits)
	if !r.failed(err) {
		r.line("%s", quote(string(text)))
	}
}

func dialect(word string) lxdimage.Dialect {
	if word == "incus" {
		return lxdimage.DialectIncus
	}
	return lxdimage.DialectLXD
}

func (r *runner) templateStep(words []string) bool {
	switch words[0] {
	case "template":
		variables, err := lxdimage.TemplateContextFromJSON([]byte(words[3]))
		r.render(lxdimage.TemplateOptions{Dialect: dialect(words[1])}, words[2], variables, err)
	case "variables":
		variables, err := lxdimage.TemplateContextFromVariables([]byte(words[4]))
		r.render(lxdimage.TemplateOptions{Dialect: dialect(words[1]), Raw: words[2] == "raw"}, words[3], variables, err)
	case "apply":
		variables, err := lxdimage.TemplateContextFromJSON([]byte(words[3]))
		if r.failed(err) {
			return true
		}
		defer variables.Close()
		outcomes, err := lxdimage.Apply(r.ctx, words[1], lxdimage.Trigger(words[2]), variables, &lxdimage.ApplyOptions{Limits: r.limits})
		for _, outcome := range outcomes {
			r.line("%s %s %s", outcome.Action, quote(outcome.Path), quote(outcome.Template))
		}
		r.failed(err)
	default:
		return false
	}
	return true
}
