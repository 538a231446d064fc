// Package instance has the type that LXD gives to the trigger, so that it compares alike.
package instance

// TemplateTrigger tells why a template is rendered.
type TemplateTrigger string
