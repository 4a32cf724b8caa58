// Deterministic work for a patched engine: hashing, compression, exceptions, regular expressions, promises, timers.
const zlib = require('zlib'), crypto = require('crypto');
const object = {};
for (let i = 0; i < 2000; i++)
	object['k' + i] = [i * i, String(i), i / 7];
const text = JSON.stringify(object);
console.log(crypto.createHash('sha256').update(text).digest('hex'), zlib.gzipSync(text).length);

let caught = 0;
for (let i = 0; i < 2000; i++) {
	try {
		throw new Error('x' + i);
	} catch (error) {
		caught += error.message.length;
	}
}
console.log(caught, text.match(/(\d+)0(\d)/g).length, new Intl.NumberFormat('en').format(1234567.89));

const numbers = Array.from({length: 200000}, (_, i) => (i * 7919) % 100003).sort((a, b) => a - b);
console.log(numbers[1234]);

(async () => {
	let sum = 0;
	for (let i = 0; i < 1000; i++)
		sum += await Promise.resolve(i);
	console.log(sum);
	setTimeout(() => console.log('end'), 5);
})();
