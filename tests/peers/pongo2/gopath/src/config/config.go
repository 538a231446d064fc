// Package config has the types that LXD gives to devices, so that they print alike.
package config

// Device is one device.
type Device map[string]string

// Devices are the devices of an instance.
type Devices map[string]Device
