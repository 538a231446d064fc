module lxdimage

go 1.19
