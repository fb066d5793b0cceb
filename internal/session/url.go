package session

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// defaultHeartbeat finds a dead peer within 20 to 30 s, also where no TCP reset arrives.
const defaultHeartbeat = 10 * time.Second

// SplitURLs takes a comma-separated list of broker URLs, the nodes of one cluster, apart.
func SplitURLs(list string) []string {
	var urls []string
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			urls = append(urls, part)
		}
	}
	return urls
}

// Redact gives the URL without its password, fit for logs and errors. What cannot be read as
// a URL comes back as a fixed text, since a password may stand anywhere in it.
func Redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || misplacedAt(u) {
		return "(unreadable URL)"
	}
	clean := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if u.User != nil {
		clean.User = url.User(u.User.Username())
	}
	return clean.String()
}

// misplacedAt tells whether an @ stands behind the host: then a special character in the password
// was not percent-encoded, and what looks like host and path is a part of it.
func misplacedAt(u *url.URL) bool {
	return strings.Contains(u.EscapedPath()+"?"+u.RawQuery+"#"+u.Fragment, "@")
}

// target is one URL made ready to be dialled.
type target struct {
	uri       amqp.URI
	addr      string // for people, without the password
	heartbeat time.Duration
	sasl      func() []amqp.Authentication
}

func parseTarget(raw string) (target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's own message repeats the URL, and with it the password.
		return target{}, fmt.Errorf("%w: it cannot be read; want amqp://user:password@host:5672/vhost, "+
			"with special characters in the password percent-encoded", ErrURL)
	}
	if misplacedAt(u) {
		return target{}, fmt.Errorf("%w: an @ stands behind the host; percent-encode special characters in user, password "+
			"and virtual host (@ is %%40, / is %%2F)", ErrURL)
	}
	if u.Scheme != "amqp" && u.Scheme != "amqps" {
		return target{}, fmt.Errorf("%w: scheme %q; want amqp:// or amqps://", ErrURL, u.Scheme)
	}
	uri, err := amqp.ParseURI(raw)
	if err != nil {
		return target{}, fmt.Errorf("%w: %s: want amqp://user:password@host:5672/vhost", ErrURL, Redact(raw))
	}
	t := target{uri: uri, addr: Redact(raw), heartbeat: defaultHeartbeat}
	if s := u.Query().Get("heartbeat"); s != "" {
		seconds, err := strconv.Atoi(s)
		if err != nil || seconds < 0 {
			return target{}, fmt.Errorf("%w: %s: heartbeat %q is not a number of seconds", ErrURL, t.addr, s)
		}
		t.heartbeat = time.Duration(seconds) * time.Second
	}
	t.sasl, err = mechanisms(uri)
	if err != nil {
		return target{}, fmt.Errorf("%w: %s: %w", ErrURL, t.addr, err)
	}
	return t, nil
}

// mechanisms gives a maker of SASL mechanisms: the client blanks the password of the ones it
// was given after use, so every dial needs its own.
func mechanisms(uri amqp.URI) (func() []amqp.Authentication, error) {
	var makers []func() amqp.Authentication
	for _, name := range uri.AuthMechanism {
		switch strings.ToUpper(name) {
		case "PLAIN":
			makers = append(makers, func() amqp.Authentication { return uri.PlainAuth() })
		case "AMQPLAIN":
			makers = append(makers, func() amqp.Authentication { return uri.AMQPlainAuth() })
		case "EXTERNAL":
			makers = append(makers, func() amqp.Authentication { return &amqp.ExternalAuth{} })
		default:
			return nil, fmt.Errorf("auth_mechanism %q; want PLAIN, AMQPLAIN or EXTERNAL", name)
		}
	}
	if len(makers) == 0 {
		makers = append(makers, func() amqp.Authentication { return uri.PlainAuth() })
	}
	return func() []amqp.Authentication {
		auths := make([]amqp.Authentication, len(makers))
		for i, maker := range makers {
			auths[i] = maker()
		}
		return auths
	}, nil
}

// hostPort is the TCP address of the target.
func (t target) hostPort() string { return net.JoinHostPort(t.uri.Host, strconv.Itoa(t.uri.Port)) }

// tlsConfig is what the TLS handshake with this target uses; nil for amqp://.
func (t target) tlsConfig(base *tls.Config) (*tls.Config, error) {
	if t.uri.Scheme != "amqps" {
		return nil, nil //nolint:nilnil // no TLS is a result, not a fault
	}
	config := base.Clone()
	if config == nil {
		var err error
		config, err = LoadTLS(t.uri.CACertFile, t.uri.CertFile, t.uri.KeyFile)
		if err != nil {
			return nil, err
		}
	}
	if config.ServerName == "" {
		config.ServerName = t.uri.ServerName
	}
	if config.ServerName == "" {
		config.ServerName = t.uri.Host
	}
	return config, nil
}

// LoadTLS makes a client configuration from PEM files. An empty ca means the system's roots;
// cert and key, given together, make the client's own certificate for mutual TLS.
func LoadTLS(ca, cert, key string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("read CA certificates: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA certificates: %s holds no PEM certificate", ca)
		}
	}
	if (cert == "") != (key == "") {
		return nil, errors.New("a client certificate needs both its certificate and its key")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// HostPort gives the host and the port that a broker URL leads to.
func HostPort(raw string) (host, port string, err error) {
	t, err := parseTarget(raw)
	if err != nil {
		return "", "", err
	}
	return t.uri.Host, strconv.Itoa(t.uri.Port), nil
}

// VirtualHost gives the virtual host of a broker URL.
func VirtualHost(raw string) string {
	t, err := parseTarget(raw)
	if err != nil {
		return ""
	}
	return t.uri.Vhost
}
