// Socket.IO on Node, WebSocket transport only, `bufferutil` used: `?kind=` stands for the paths of `site_app.py`.
import { createServer } from 'node:http'
import { createRequire } from 'node:module'

const require = createRequire(process.env.BENCH_NODE + '/')
require('bufferutil')
const { Server } = require('socket.io')

const server = createServer((request, response) => {
  const begin = performance.now()
  globalThis.gc()
  response.end(JSON.stringify({ pause_ms: performance.now() - begin }))
})
const io = new Server(server, {
  transports: ['websocket'],
  perMessageDeflate: process.argv[3] === 'true',
  pingInterval: 25000,
})
const receive = {
  echo: (socket, { message }) => socket.emit('message', { message }),
  'room-sender': (_, { message }) => io.sockets.sockets.forEach((one) => one.rooms.has('room') && one.emit('message', { message })),
  'hall-sender': (_, content) => io.to('hall').emit('message', content), // encoded once
}
io.on('connection', (socket) => {
  const { kind } = socket.handshake.query
  if (kind === 'room' || kind === 'hall') socket.join(kind)
  socket.on('message', (content) => receive[kind]?.(socket, content))
})
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 })
