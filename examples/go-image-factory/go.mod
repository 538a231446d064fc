module go-image-factory

go 1.19

require lxdimage v0.0.0

replace lxdimage => ../../ffi/go
