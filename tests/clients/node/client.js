// npm ssh2, case by case: see ../python/family.py for what a driver is.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { Client } = require('ssh2');

const BULK = 4 << 20;
const LIMIT = 30_000;

const site = JSON.parse(process.argv[2]);

// The server's key must be one that known_hosts has for it.
function isKnown(key) {
  const host = site.port === 22 ? site.host : `[${site.host}]:${site.port}`;
  const lines = fs.readFileSync(site.known_hosts, 'utf8').split('\n').map((line) => line.split(' '));
  return lines.some(([name, , blob]) => name === host && blob === key.toString('base64'));
}

function connect(options = {}) {
  return new Promise((resolve, reject) => {
    const client = new Client();
    client.once('ready', () => resolve(client)).on('error', reject);
    client.connect({
      host: site.host, port: site.port, username: site.user, privateKey: fs.readFileSync(site.key),
      hostVerifier: isKnown, readyTimeout: LIMIT, ...options,
    });
  });
}

// Calls a method whose last parameter is a callback with an error first.
const call = (object, method, ...args) => new Promise((resolve, reject) => {
  object[method](...args, (error, ...values) => (error ? reject(error) : resolve(values.length > 1 ? values : values[0])));
});

function readAll(stream) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    stream.on('data', (chunk) => chunks.push(chunk)).on('end', () => resolve(Buffer.concat(chunks))).on('error', reject);
  });
}

// Both output streams, and how it ended: [code] or [null, signal, …].
async function finish(stream) {
  const ended = new Promise((resolve) => { stream.on('exit', (code, signal) => resolve({ code, signal })); });
  const [out, errors, { code, signal }] = await Promise.all([readAll(stream), readAll(stream.stderr), ended]);
  return { out, errors, code, signal };
}

// Calls a method that opens a channel, feeds the channel with `feed` and waits for its end. All listeners are
// there before the next packet is read.
function perform(client, feed, method, ...args) {
  return new Promise((resolve, reject) => {
    client[method](...args, (error, stream) => {
      if (error) return reject(error);
      finish(stream).then(resolve, reject);
      feed(stream);
    });
  });
}

function execute(client, command, input = '', options = {}) {
  return perform(client, (stream) => stream.end(input), 'exec', command, options);
}

function same(sent, back) {
  return sent.equals(back) ? `same ${back.length}` : `sent ${sent.length}, back other ${back.length}`;
}

function httpReply(body) {
  return Buffer.concat([Buffer.from(`HTTP/1.0 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`), body]);
}

// The body that a web server has for `path`; the method opens a connection to it.
async function fetch(path, client, method, ...args) {
  const reply = await new Promise((resolve, reject) => {
    client[method](...args, (error, stream) => {
      if (error) return reject(error);
      readAll(stream).then(resolve, reject);
      stream.write(`GET ${path} HTTP/1.0\r\n\r\n`);
    });
  });
  return reply.subarray(reply.indexOf('\r\n\r\n') + 4);
}

// The script that an IDE gives bash as one word of its command, and what it says under each name.
const ides = path.join(__dirname, '../../ides');
async function startServer(client, name) {
  const read = (file) => fs.readFileSync(path.join(ides, file), 'utf8');
  const id = crypto.randomBytes(12).toString('hex');
  const script = `id=${id} name=${name} listen=0\n${read('start.sh').replace('@SERVER@', () => read('server.py'))}`;
  const { out, errors, code } = await execute(client, `bash -c '${script.replaceAll("'", "'\\''")}'`);
  const [, result] = out.toString().split(`${id}: start\n`);
  if (code !== 0 || !result.endsWith(`${id}: end\n`)) throw new Error(`${code}: ${out}${errors}`);
  return Object.fromEntries(result.split('\n').map((line) => line.split('==')));
}

// Sends that server a frame through a forward: its pid, and how many frames it has got.
async function sayToServer(client, port, body) {
  const stream = await call(client, 'forwardOut', '127.0.0.1', 1, '127.0.0.1', Number(port));
  const answer = readAll(stream);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(body.length);
  stream.end(Buffer.concat([length, body]));
  const reply = await answer;
  return [reply.readUInt32LE(4), reply.readUInt32LE(8), same(body, reply.subarray(12))];
}

// Replies with `body` to whatever connects from the server's side.
function answer(client, event, body) {
  client.on(event, (_, accept) => {
    const stream = accept();
    stream.once('data', () => stream.end(httpReply(body)));
  });
}

const cases = {
  'exit code': async (client) => {
    const codes = [];
    for (const code of [0, 1, 42, 255]) codes.push((await execute(client, `exit ${code}`)).code);
    return codes;
  },

  'streams': async (client) => {
    const sent = crypto.randomBytes(BULK);
    const { out, errors, code } = await execute(client, 'tee /dev/stderr', sent);
    return [same(sent, out), same(sent, errors), code];
  },

  'end of input': async (client) => {
    return (await execute(client, 'cat; echo ended; sleep 0.2; echo done', 'line\n')).out.toString();
  },

  'terminal': async (client) => {
    const pty = { term: 'vt220', cols: 101, rows: 41 };
    const command = "echo $TERM; stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done";
    const resize = (stream) => stream.on('data', (text) => text.includes('ready') && stream.setWindow(55, 133, 0, 0));
    const { out, code } = await perform(client, resize, 'exec', command, { pty });
    return [out.toString().trim().split(/\s+/), code];
  },

  'environment': async (client) => {
    const env = { LC_BOXGATE: 'set', NOT_ACCEPTED: 'set' };
    return (await execute(client, 'echo $LC_BOXGATE,$NOT_ACCEPTED', '', { env })).out.toString();
  },

  'shell': async (client) => {
    const { out, code } = await perform(client, (stream) => stream.end('echo in a shell; exit 7\n'), 'shell', false);
    return [out.toString(), code];
  },

  'signal': async (client) => {
    const { code, signal } = await execute(client, 'kill -TERM $$');
    return [code, signal];
  },

  'signal sent': async (client) => {
    const send = (stream) => stream.once('data', () => stream.signal('USR1'));
    const { code, signal } = await perform(client, send, 'exec', 'echo ready; exec sleep 60');
    return [code, signal];
  },

  'sftp': async (client) => {
    const files = await call(client, 'sftp');
    const sent = crypto.randomBytes(BULK);
    await call(files, 'mkdir', site.place);
    await call(files, 'writeFile', `${site.place}/one`, sent);
    await call(files, 'rename', `${site.place}/one`, `${site.place}/two`);
    await call(files, 'chmod', `${site.place}/two`, 0o640);
    await call(files, 'symlink', 'two', `${site.place}/link`);
    const names = (await call(files, 'readdir', site.place)).map((entry) => entry.filename).sort();
    const back = await call(files, 'readFile', `${site.place}/link`);
    const mode = (await call(files, 'stat', `${site.place}/two`)).mode.toString(8);
    for (const name of names) await call(files, 'unlink', `${site.place}/${name}`);
    await call(files, 'rmdir', site.place);
    const missing = await call(files, 'stat', site.place).catch((error) => [error.code, error.message]);
    return [names, mode, same(sent, back), missing];
  },

  'local forward': async (client) => {
    const back = await fetch('/body', client, 'forwardOut', '127.0.0.1', 1, '127.0.0.1', site.web_port);
    return same(fs.readFileSync(site.web_body), back);
  },

  'refused forward': async (client) => {
    const refused = await call(client, 'forwardOut', '127.0.0.1', 1, '127.0.0.1', 1).catch((error) => error);
    return [refused.reason, refused.message, (await execute(client, 'echo lives on')).out.toString()];
  },

  'remote forward': async (client) => {
    const body = crypto.randomBytes(300_000);
    answer(client, 'tcp connection', body);
    const port = await call(client, 'forwardIn', '127.0.0.1', 0);
    const { out } = await execute(client, `curl -sS http://127.0.0.1:${port}/`);
    await call(client, 'unforwardIn', '127.0.0.1', port);
    const gone = await execute(client, `curl -s http://127.0.0.1:${port}/`);
    return [port > 0, same(body, out), gone.code];
  },

  'unix forwards': async (client) => {
    const [path, body] = [`/tmp/${site.place}.sock`, crypto.randomBytes(300_000)];
    answer(client, 'unix connection', body);
    await call(client, 'openssh_forwardInStreamLocal', path);
    const { out } = await execute(client, `curl -sS --unix-socket ${path} http://box/`);
    const back = await fetch('/', client, 'openssh_forwardOutStreamLocal', path);
    await call(client, 'openssh_unforwardInStreamLocal', path);
    return [same(body, out), same(body, back)];
  },

  // As open-remote-ssh does it, VSCodium's extension: twice, as two windows do, then after the connection is cut.
  'open-remote-ssh': async (client) => {
    const kernel = (await execute(client, 'uname -s')).out.toString();
    const [name, body] = [`codium-${site.place}`, crypto.randomBytes(300_000)];
    const { listeningOn } = await startServer(client, name);
    const [pid, ...first] = await sayToServer(client, listeningOn, body);
    const second = await startServer(client, name);
    client.destroy();
    const again = await connect();
    const third = await startServer(again, name);
    const [samePid, ...last] = await sayToServer(again, third.listeningOn, body);
    again.end();
    return [kernel, first, second.listeningOn === listeningOn, pid === samePid, last];
  },

  'agent': async () => {
    const client = await connect({ agent: site.agent, agentForward: true });
    const { out } = await execute(client, "ssh-add -l | cut -d ' ' -f 1,3-");
    client.end();
    return out.toString();
  },

  'many channels': async (client) => {
    const numbers = [...Array(100).keys()];
    const command = (number) => `read -r line; echo $line ${number}; exit ${number}`;
    const said = await Promise.all(numbers.map((number) => execute(client, command(number), 'number\n')));
    return numbers.filter((number) => said[number].code !== number || said[number].out.toString() !== `number ${number}\n`);
  },

  'compression': async () => {
    const client = await connect({ algorithms: { compress: ['zlib@openssh.com'] } });
    const sent = Buffer.from('compress me '.repeat(100_000));
    const { out, errors } = await execute(client, 'tee /dev/stderr', sent);
    client.end();
    return [same(sent, out), same(sent, errors)];
  },

  'unknown subsystem': async (client) => {
    return call(client, 'subsys', 'no-such-subsystem').catch((error) => error.message);
  },

  'x11': async (client) => {
    const { out } = await execute(client, 'echo ${DISPLAY%:*}; xauth list | wc -l', '', { x11: true });
    return out.toString();
  },

  'no more sessions': async (client) => {
    await call(client, 'openssh_noMoreSessions');
    const refused = new Promise((resolve) => {
      client.removeAllListeners('error').on('error', (error) => resolve(error.message));
    });
    const opened = execute(client, 'true').then(() => 'opened', (error) => error.message);
    return Promise.race([refused, opened]);
  },

  'wrong key': async () => {
    const wrong = { privateKey: fs.readFileSync(site.wrong_key) };
    return connect(wrong).then(() => 'let in', (error) => [error.level, error.message]);
  },
};

async function run(name) {
  const client = await connect();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${LIMIT} ms`)), LIMIT);
  });
  try {
    return await Promise.race([cases[name](client), late]);
  } finally {
    clearTimeout(timer);
    client.on('error', () => {}).end();
  }
}

async function main() {
  for (const name of process.argv.slice(3)) {
    const began = process.hrtime.bigint();
    const saw = await run(name).catch((error) => `${error.name}: ${error.message}`);
    const took = Number(process.hrtime.bigint() - began) / 1e9;
    console.log(JSON.stringify({ case: name, saw, took }));
  }
  process.exit(0);
}

main();
