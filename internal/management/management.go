// Package management asks RabbitMQ's management API for what AMQP cannot tell: which queues there
// are.
package management

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// timeout bounds the whole of it: a broker without the plugin must not hold anybody up.
const timeout = 5 * time.Second

// maxAnswer bounds one page of an answer.
const maxAnswer = 16 << 20

// URLOf guesses where the management API of the broker at an AMQP URL is: on its host, at the port
// that RabbitMQ gives it, with the same user. It is empty where the URL is no plain amqp:// one.
func URLOf(amqp string) string {
	u, err := url.Parse(amqp)
	if err != nil || u.Scheme != "amqp" || u.Hostname() == "" {
		return ""
	}
	api := url.URL{Scheme: "http", Host: u.Hostname() + ":15672", User: u.User}
	if strings.Contains(u.Hostname(), ":") {
		api.Host = "[" + u.Hostname() + "]:15672"
	}
	if api.User == nil {
		api.User = url.UserPassword("guest", "guest")
	}
	return api.String()
}

// Queues gives the names of the queues of a virtual host that end in suffix. An error never shows
// the password in the URL.
func Queues(ctx context.Context, api, vhost, suffix string) ([]string, error) {
	base, err := url.Parse(api)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("management URL is not http://user:password@host:15672")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var names []string
	for page, pages := 1, 1; page <= pages; page++ {
		var answer struct {
			PageCount int `json:"page_count"`
			Items     []struct {
				Name string `json:"name"`
			} `json:"items"`
		}
		query := url.Values{
			"page": {fmt.Sprint(page)}, "page_size": {"500"}, "columns": {"name"},
			"name": {regexp.QuoteMeta(suffix) + "$"}, "use_regex": {"true"},
		}
		if err := get(ctx, base, "/api/queues/"+url.PathEscape(vhost)+"?"+query.Encode(), &answer); err != nil {
			return nil, fmt.Errorf("ask the management API at %s: %w", base.Host, err)
		}
		pages = answer.PageCount
		for _, item := range answer.Items {
			if strings.HasSuffix(item.Name, suffix) {
				names = append(names, item.Name)
			}
		}
	}
	return names, nil
}

func get(ctx context.Context, base *url.URL, path string, answer any) error {
	at := url.URL{Scheme: base.Scheme, Host: base.Host}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String()+path, nil)
	if err != nil {
		return err
	}
	if base.User != nil {
		password, _ := base.User.Password()
		request.SetBasicAuth(base.User.Username(), password)
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", response.Status)
	}
	return json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(answer)
}
