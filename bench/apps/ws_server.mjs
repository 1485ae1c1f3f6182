// Node with `ws` and `bufferutil`: the paths of `site_app.py` that need no Django. Needs `node --expose-gc`.
import { createServer } from 'node:http'
import { createRequire } from 'node:module'

const require = createRequire(process.env.BENCH_NODE + '/')
require('bufferutil') // `ws` uses it if it is there; without it the comparison would not be fair
const { WebSocket, WebSocketServer } = require('ws')

const groups = { room: new Set(), hall: new Set() }

const receive = {
  '/echo/': (socket, data) => socket.send(JSON.stringify({ message: JSON.parse(data).message })),
  '/room-sender/': (_, data) => {
    const { message } = JSON.parse(data)
    for (const member of groups.room) member.send(JSON.stringify({ message }))
  },
  '/hall-sender/': (_, data) => {
    const text = data.toString()
    for (const member of groups.hall) if (member.readyState === WebSocket.OPEN) member.send(text)
  },
}
receive['/room/'] = receive['/room-sender/']
receive['/hall/'] = receive['/hall-sender/']

const server = createServer((request, response) => {
  if (request.url !== '/collect/') return response.end('Hello, world')
  const begin = performance.now()
  globalThis.gc()
  response.end(JSON.stringify({ pause_ms: performance.now() - begin }))
})
const sockets = new WebSocketServer({
  server,
  perMessageDeflate: process.argv[3] === 'true',
  maxPayload: 1 << 20,
})
sockets.on('connection', (socket, request) => {
  const group = groups[request.url.slice(1, -1)]
  group?.add(socket)
  socket.on('message', (data) => receive[request.url](socket, data))
  socket.on('close', () => group?.delete(socket))
})
setInterval(() => sockets.clients.forEach((socket) => socket.ping()), 25000)
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 })
