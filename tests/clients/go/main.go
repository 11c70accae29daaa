// golang.org/x/crypto/ssh, case by case: see ../python/family.py for what a driver is.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

const (
	bulk  = 4 << 20
	limit = 30 * time.Second
)

// Where and as whom; see `Driver` in families.rs.
type site struct {
	Host       string `json:"host"`
	Port       int    `json:"port"`
	User       string `json:"user"`
	Key        string `json:"key"`
	WrongKey   string `json:"wrong_key"`
	KnownHosts string `json:"known_hosts"`
	WebPort    int    `json:"web_port"`
	WebBody    string `json:"web_body"`
	Place      string `json:"place"`
	Agent      string `json:"agent"`
}

type testCase func(site, *ssh.Client) (any, error)

var cases = map[string]testCase{
	"exit code":       exitCode,
	"streams":         streams,
	"end of input":    endOfInput,
	"terminal":        terminal,
	"environment":     environment,
	"shell":           shell,
	"signal":          signal,
	"signal sent":     signalSent,
	"local forward":   localForward,
	"refused forward": refusedForward,
	"remote forward":  remoteForward,
	"unix forwards":   unixForwards,
	"agent":           agentForwarding,
	"many channels":   manyChannels,
	"rekey":           rekey,
	"key exchanges":   keyExchanges,
	"ciphers":         ciphers,
	"requests":        requests,
	"wrong key":       wrongKey,
}

func (s site) config(key string) (*ssh.ClientConfig, error) {
	text, err := os.ReadFile(key)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, err
	}
	known, err := knownhosts.New(s.KnownHosts)
	if err != nil {
		return nil, err
	}
	return &ssh.ClientConfig{
		User: s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: known, Timeout: limit,
		// The one that both servers have.
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	}, nil
}

func (s site) dial(change func(*ssh.ClientConfig)) (*ssh.Client, error) {
	config, err := s.config(s.Key)
	if err != nil {
		return nil, err
	}
	change(config)
	return ssh.Dial("tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)), config)
}

func same(sent, back []byte) string {
	if bytes.Equal(sent, back) {
		return fmt.Sprintf("same %d", len(back))
	}
	return fmt.Sprintf("sent %d, back other %d", len(sent), len(back))
}

func random(count int) []byte {
	data := make([]byte, count)
	rand.Read(data)
	return data
}

func status(err error) int {
	if exit := (*ssh.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitStatus()
	}
	if err != nil {
		return -1
	}
	return 0
}

// What a command prints, and its exit code.
func execute(client *ssh.Client, command string, input []byte) ([]byte, []byte, int, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, nil, 0, err
	}
	defer session.Close()
	var out, errs bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = bytes.NewReader(input), &out, &errs
	code := status(session.Run(command))
	return out.Bytes(), errs.Bytes(), code, nil
}

func exitCode(_ site, client *ssh.Client) (any, error) {
	var codes []int
	for _, code := range []int{0, 1, 42, 255} {
		_, _, seen, err := execute(client, fmt.Sprintf("exit %d", code), nil)
		if err != nil {
			return nil, err
		}
		codes = append(codes, seen)
	}
	return codes, nil
}

func streams(_ site, client *ssh.Client) (any, error) {
	sent := random(bulk)
	out, errs, code, err := execute(client, "tee /dev/stderr", sent)
	return []any{same(sent, out), same(sent, errs), code}, err
}

func endOfInput(_ site, client *ssh.Client) (any, error) {
	out, _, _, err := execute(client, "cat; echo ended; sleep 0.2; echo done", []byte("line\n"))
	return string(out), err
}

func terminal(_ site, client *ssh.Client) (any, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	if err := session.RequestPty("vt220", 41, 101, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
		return nil, err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// Without one, the terminal's input would end at once.
	if _, err := session.StdinPipe(); err != nil {
		return nil, err
	}
	command := "echo $TERM; stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done"
	if err := session.Start(command); err != nil {
		return nil, err
	}
	var text []byte
	chunk := make([]byte, 1000)
	for !bytes.Contains(text, []byte("ready")) {
		read, err := out.Read(chunk)
		if err != nil {
			return nil, err
		}
		text = append(text, chunk[:read]...)
	}
	if err := session.WindowChange(55, 133); err != nil {
		return nil, err
	}
	rest, _ := io.ReadAll(out)
	words := []string{}
	for _, word := range bytes.Fields(append(text, rest...)) {
		words = append(words, string(word))
	}
	return []any{words, status(session.Wait())}, nil
}

func environment(_ site, client *ssh.Client) (any, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	accepted := session.Setenv("LC_BOXGATE", "set")
	refused := session.Setenv("NOT_ACCEPTED", "set")
	out, err := session.Output("echo $LC_BOXGATE,$NOT_ACCEPTED")
	return []any{accepted == nil, fmt.Sprint(refused), string(out)}, err
}

func shell(_ site, client *ssh.Client) (any, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	session.Stdin, session.Stdout = bytes.NewReader([]byte("echo in a shell; exit 7\n")), &out
	if err := session.Shell(); err != nil {
		return nil, err
	}
	return []any{status(session.Wait()), out.String()}, nil
}

func signal(_ site, client *ssh.Client) (any, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	exit := (*ssh.ExitError)(nil)
	errors.As(session.Run("kill -TERM $$"), &exit)
	return exit.Signal(), nil
}

func signalSent(_ site, client *ssh.Client) (any, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	out, _ := session.StdoutPipe()
	if err := session.Start("echo ready; exec sleep 60"); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		return nil, err
	}
	if err := session.Signal(ssh.SIGUSR1); err != nil {
		return nil, err
	}
	exit := (*ssh.ExitError)(nil)
	errors.As(session.Wait(), &exit)
	return exit.Signal(), nil
}

func fetch(dial func(string, string) (net.Conn, error), network, address, path string) ([]byte, error) {
	transport := &http.Transport{Dial: func(_, _ string) (net.Conn, error) { return dial(network, address) }}
	reply, err := (&http.Client{Transport: transport}).Get("http://box" + path)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	return io.ReadAll(reply.Body)
}

func localForward(s site, client *ssh.Client) (any, error) {
	body, err := os.ReadFile(s.WebBody)
	if err != nil {
		return nil, err
	}
	back, err := fetch(client.Dial, "tcp", fmt.Sprintf("127.0.0.1:%d", s.WebPort), "/body")
	return same(body, back), err
}

func refusedForward(_ site, client *ssh.Client) (any, error) {
	_, err := client.Dial("tcp", "127.0.0.1:1")
	out, _, _, alive := execute(client, "echo lives on", nil)
	return []any{fmt.Sprint(err), string(out)}, alive
}

func serve(listener net.Listener, body []byte) {
	http.Serve(listener, http.HandlerFunc(func(reply http.ResponseWriter, _ *http.Request) { reply.Write(body) }))
}

func remoteForward(_ site, client *ssh.Client) (any, error) {
	listener, err := client.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port, body := listener.Addr().(*net.TCPAddr).Port, random(300_000)
	go serve(listener, body)
	back, _, _, err := execute(client, fmt.Sprintf("curl -sS http://127.0.0.1:%d/", port), nil)
	if err != nil {
		return nil, err
	}
	if err := listener.Close(); err != nil {
		return nil, err
	}
	_, _, gone, err := execute(client, fmt.Sprintf("curl -s http://127.0.0.1:%d/", port), nil)
	return []any{port > 0, same(body, back), gone}, err
}

func unixForwards(s site, client *ssh.Client) (any, error) {
	path, body := "/tmp/"+s.Place+".sock", random(300_000)
	listener, err := client.ListenUnix(path)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	go serve(listener, body)
	there, _, _, err := execute(client, "curl -sS --unix-socket "+path+" http://box/", nil)
	if err != nil {
		return nil, err
	}
	back, err := fetch(client.Dial, "unix", path, "/")
	return []any{same(body, there), same(body, back)}, err
}

func agentForwarding(s site, client *ssh.Client) (any, error) {
	connection, err := net.Dial("unix", s.Agent)
	if err != nil {
		return nil, err
	}
	if err := agent.ForwardToAgent(client, agent.NewClient(connection)); err != nil {
		return nil, err
	}
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	if err := agent.RequestAgentForwarding(session); err != nil {
		return nil, err
	}
	out, err := session.Output("ssh-add -l | cut -d ' ' -f 1,3-")
	return string(out), err
}

func manyChannels(_ site, client *ssh.Client) (any, error) {
	var group sync.WaitGroup
	var lock sync.Mutex
	wrong := []string{}
	for number := range 100 {
		group.Go(func() {
			command := fmt.Sprintf("read -r line; echo $line %d; exit %d", number, number)
			out, _, code, err := execute(client, command, []byte("number\n"))
			if err != nil || code != number || string(out) != fmt.Sprintf("number %d\n", number) {
				lock.Lock()
				wrong = append(wrong, fmt.Sprintf("%d: %q %d %v", number, out, code, err))
				lock.Unlock()
			}
		})
	}
	group.Wait()
	return wrong, nil
}

func rekey(s site, _ *ssh.Client) (any, error) {
	client, err := s.dial(func(config *ssh.ClientConfig) { config.RekeyThreshold = 256 << 10 })
	if err != nil {
		return nil, err
	}
	defer client.Close()
	sent := random(bulk)
	out, errs, _, err := execute(client, "tee /dev/stderr", sent)
	return []any{same(sent, out), same(sent, errs)}, err
}

// Logs in and moves data with each of these alone.
func each(s site, names []string, set func(*ssh.ClientConfig, string)) (any, error) {
	wrong := map[string]string{}
	for _, name := range names {
		client, err := s.dial(func(config *ssh.ClientConfig) { set(config, name) })
		if err != nil {
			wrong[name] = err.Error()
			continue
		}
		sent := random(100_000)
		if out, _, _, err := execute(client, "cat", sent); err != nil || !bytes.Equal(out, sent) {
			wrong[name] = fmt.Sprint(same(sent, out), err)
		}
		client.Close()
	}
	return wrong, nil
}

func keyExchanges(s site, _ *ssh.Client) (any, error) {
	names := []string{
		ssh.KeyExchangeCurve25519, ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521,
		ssh.KeyExchangeDH14SHA256, ssh.KeyExchangeDH16SHA512,
	}
	return each(s, names, func(config *ssh.ClientConfig, name string) { config.KeyExchanges = []string{name} })
}

func ciphers(s site, _ *ssh.Client) (any, error) {
	names := []string{
		ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES128CTR,
		ssh.CipherAES192CTR, ssh.CipherAES256CTR,
	}
	return each(s, names, func(config *ssh.ClientConfig, name string) { config.Ciphers = []string{name} })
}

// Requests and channels that neither side has ever heard of.
func requests(_ site, client *ssh.Client) (any, error) {
	accepted, payload, err := client.SendRequest("nobody@example.org", true, []byte("payload"))
	if err != nil {
		return nil, err
	}
	seen := []any{accepted, string(payload)}
	if _, _, err = client.SendRequest("nobody@example.org", false, nil); err != nil {
		return nil, err
	}
	_, _, err = client.OpenChannel("nothing@example.org", []byte("payload"))
	seen = append(seen, fmt.Sprint(err))
	channel, incoming, err := client.OpenChannel("session", nil)
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(incoming)
	accepted, err = channel.SendRequest("nobody@example.org", true, []byte("payload"))
	return append(seen, accepted), err
}

func wrongKey(s site, _ *ssh.Client) (any, error) {
	config, err := s.config(s.WrongKey)
	if err != nil {
		return nil, err
	}
	_, err = ssh.Dial("tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)), config)
	return fmt.Sprint(err), nil
}

func run(s site, function testCase) (saw any) {
	client, err := s.dial(func(*ssh.ClientConfig) {})
	if err != nil {
		return err.Error()
	}
	// Ends whatever the case waits for.
	late := time.AfterFunc(limit, func() { client.Close() })
	defer client.Close()
	saw, err = function(s, client)
	if !late.Stop() {
		return fmt.Sprint("not within ", limit)
	}
	if err != nil {
		return fmt.Sprint(saw, " error: ", err)
	}
	return saw
}

func main() {
	var s site
	if err := json.Unmarshal([]byte(os.Args[1]), &s); err != nil {
		panic(err)
	}
	for _, name := range os.Args[2:] {
		began := time.Now()
		saw := run(s, cases[name])
		line, _ := json.Marshal(map[string]any{"case": name, "saw": saw, "took": time.Since(began).Seconds()})
		fmt.Println(string(line))
	}
}
