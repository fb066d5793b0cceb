package session_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/localbroker"
	"github.com/evdemo/evdemo/internal/session"
)

// A broker that speaks TLS and asks for the client's certificate.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	serverCert, serverKey := ca.issue(t, "server")
	clientCert, clientKey := ca.issue(t, "client")
	port := freePort(t)
	brokertest.Node(t, func(c *localbroker.Config) {
		c.ConfigExtra = append(c.ConfigExtra,
			fmt.Sprintf("listeners.ssl.default = 127.0.0.1:%d", port),
			"ssl_options.cacertfile = "+ca.file, "ssl_options.certfile = "+serverCert, "ssl_options.keyfile = "+serverKey,
			"ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = true")
	})
	url := fmt.Sprintf("amqps://guest:guest@127.0.0.1:%d/", port)
	dial := func(config *tls.Config, url string) error {
		s, err := session.Dial(t.Context(), session.Config{URLs: []string{url}, TLS: config})
		if err == nil {
			_, err = s.RoundTrip(t.Context())
			s.Close()
		}
		return err
	}
	load := func(ca, cert, key string) *tls.Config {
		config, err := session.LoadTLS(ca, cert, key)
		require.NoError(t, err)
		return config
	}
	mutual := load(ca.file, clientCert, clientKey)
	require.NoError(t, dial(mutual, url))
	require.NoError(t, dial(nil, url+"?cacertfile="+ca.file+"&certfile="+clientCert+"&keyfile="+clientKey), "the URL can name the files too")
	insecure := load("", clientCert, clientKey)
	insecure.InsecureSkipVerify = true //nolint:gosec // what is tested
	require.NoError(t, dial(insecure, url))

	err := dial(nil, url)
	require.ErrorIs(t, err, session.ErrUnreachable, "the system's roots do not know this CA")
	require.ErrorContains(t, err, "tls")
	require.ErrorIs(t, dial(load(ca.file, "", ""), url), session.ErrUnreachable, "the broker wants a client certificate")
	wrongName := mutual.Clone()
	wrongName.ServerName = "example.com"
	require.ErrorContains(t, dial(wrongName, url), "example.com")
}

func TestLoadTLSRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, files := range [][3]string{
		{filepath.Join(dir, "missing.pem"), "", ""}, {empty, "", ""}, {"", empty, ""}, {"", "", empty}, {"", empty, empty},
	} {
		_, err := session.LoadTLS(files[0], files[1], files[2])
		require.Error(t, err, "%v", files)
	}
}

// authority is a certificate authority for one test.
type authority struct {
	dir, file string
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
	serial    int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a.cert = a.template("authority")
	a.cert.IsCA, a.cert.BasicConstraintsValid = true, true
	a.cert.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.file = a.write(t, "ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) template(name string) *x509.Certificate {
	a.serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, a.template(name), a.cert, &private.PublicKey, a.key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return a.write(t, name+".pem", "CERTIFICATE", der), a.write(t, name+"-key.pem", "PRIVATE KEY", pkcs8)
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	assert.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // a TCP listener
}
