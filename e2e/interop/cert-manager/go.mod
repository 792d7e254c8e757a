// Below cert-manager's own path, because its programs are made of packages that are internal to it.
module github.com/cert-manager/cert-manager/interop

go 1.23.0

require github.com/cert-manager/cert-manager v1.17.4

replace github.com/go-asn1-ber/asn1-ber => github.com/go-asn1-ber/asn1-ber v1.5.6
