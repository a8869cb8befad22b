// Prints what undici gets of each URL, with its function that comes first: fetch or request.
// The proxy is in the environment; ProxyAgent takes no password from its URL (5.15).
const { ProxyAgent, fetch, request } = require('undici')
const { readFileSync } = require('fs')

const proxy = new URL(process.env.http_proxy)
const dispatcher = new ProxyAgent({
  uri: proxy.origin,
  token: proxy.username ? 'Basic ' + Buffer.from(`${proxy.username}:${proxy.password}`).toString('base64') : undefined,
  requestTls: process.env.SSL_CERT_FILE ? { ca: readFileSync(process.env.SSL_CERT_FILE) } : {}
})

async function main (name, ...urls) {
  for (const url of urls) {
    const body = name === 'fetch' ? await fetch(url, { dispatcher }) : (await request(url, { dispatcher })).body
    console.log(await body.text())
  }
}

// It exits, since 5.15 keeps a timer of a tunnel that was refused, and with it the process for ten seconds.
main(...process.argv.slice(2)).then(() => process.exit(0), (error) => {
  console.error(error.cause || error)
  process.exit(1)
})
