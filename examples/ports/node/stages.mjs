// The stages around the networks, as the contract defines them: sampler, inverse STFT, WAV.

/** The id that a uniform draws from logits (V,); see SA in the contract. */
export function sample(logits, history, options, uniform, bug) {
  if (!logits.length) throw new Error("logits are empty");
  const scores = Float64Array.from(logits);
  for (const id of bug === "penalty-per-occurrence" ? history : new Set(history)) {
    scores[id] *= scores[id] < 0 ? options.repetition_penalty : 1 / options.repetition_penalty;
  }
  // Sorting is stable: of equal scores, the lowest id comes first.
  let ranked = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]);
  if (options.temperature === 0) return ranked[0];
  const top = scores[ranked[0]];
  const weight = (id) => Math.exp((scores[id] - top) / options.temperature);
  if (options.top_k > 0) ranked = ranked.slice(0, options.top_k);
  if (options.top_p < 1) {
    const total = ranked.reduce((sum, id) => sum + weight(id), 0);
    let mass = 0;
    const last = ranked.findIndex((id) => (mass += weight(id)) >= options.top_p * total);
    ranked = ranked.slice(0, last + (bug === "crossing-id-dropped" ? 0 : 1));
  }
  ranked = ranked.filter((id) => weight(id) > 0).sort((a, b) => a - b);
  const total = ranked.reduce((sum, id) => sum + weight(id), 0);
  let mass = 0;
  return ranked.find((id) => (mass += weight(id)) > uniform * total) ?? ranked.at(-1);
}

/** The discrete Fourier transform of n complex values, n with any factors; sign -1 or 1. */
function transform(real, imaginary, sign) {
  const n = real.length;
  const re = new Float64Array(n);
  const im = new Float64Array(n);
  if (n % 2) {
    for (let k = 0; k < n; k++) {
      for (let i = 0; i < n; i++) {
        const angle = (sign * 2 * Math.PI * ((i * k) % n)) / n;
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        re[k] += real[i] * c - imaginary[i] * s;
        im[k] += real[i] * s + imaginary[i] * c;
      }
    }
    return [re, im];
  }
  const half = n / 2;
  const part = (values, offset) => values.filter((_, i) => i % 2 === offset);
  const [evenRe, evenIm] = transform(part(real, 0), part(imaginary, 0), sign);
  const [oddRe, oddIm] = transform(part(real, 1), part(imaginary, 1), sign);
  for (let k = 0; k < half; k++) {
    const angle = (sign * 2 * Math.PI * k) / n;
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    const [a, b] = [oddRe[k] * c - oddIm[k] * s, oddRe[k] * s + oddIm[k] * c];
    [re[k], im[k], re[k + half], im[k + half]] =
      [evenRe[k] + a, evenIm[k] + b, evenRe[k] - a, evenIm[k] - b];
  }
  return [re, im];
}

/** The periodic Hann window of n points. */
function hann(n, bug) {
  const period = bug === "symmetric-window" ? n - 1 : n;
  return Float64Array.from({ length: n }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / period));
}

/** Samples ((T - 1) * hop,) of a spectrum (F, T, 2), centred and one-sided. */
export function istft(spectrum, frames, { n_fft: n, hop_length: hop, win_length }, bug) {
  const bins = n / 2 + 1;
  if (spectrum.length !== bins * frames * 2) throw new Error(`a spectrum must have ${bins} bins`);
  const window = new Float64Array(n);
  window.set(hann(win_length, bug), Math.floor((n - win_length) / 2));
  const sum = new Float64Array((frames - 1) * hop + n);
  const envelope = new Float64Array(sum.length);
  for (let t = 0; t < frames; t++) {
    const [real, imaginary] = [new Float64Array(n), new Float64Array(n)];
    for (let k = 0; k < bins; k++) {
      const at = 2 * (k * frames + t);
      const edge = k === 0 || k === n / 2;
      real[k] = spectrum[at];
      imaginary[k] = edge ? 0 : spectrum[at + 1];
      if (!edge) [real[n - k], imaginary[n - k]] = [real[k], -imaginary[k]];
    }
    const frame = transform(real, imaginary, 1)[0];
    for (let i = 0; i < n; i++) {
      sum[t * hop + i] += (frame[i] / n) * window[i];
      envelope[t * hop + i] += bug === "sum-of-windows" ? window[i] : window[i] ** 2;
    }
  }
  const samples = new Float32Array(Math.max((frames - 1) * hop, 0));
  for (let i = 0; i < samples.length; i++) {
    const weight = envelope[i + n / 2];
    samples[i] = weight > 1e-10 ? sum[i + n / 2] / weight : 0;
  }
  return samples;
}

/** The bytes of a WAV file: mono, 16 bits. */
export function wav(samples, rate, bug) {
  const file = Buffer.alloc(44 + 2 * samples.length);
  file.write("RIFF", 0);
  file.writeUInt32LE(36 + 2 * samples.length, 4);
  file.write("WAVEfmt ", 8);
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20); // PCM
  file.writeUInt16LE(1, 22); // channels
  file.writeUInt32LE(rate, 24);
  file.writeUInt32LE(2 * rate, 28);
  file.writeUInt16LE(2, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36);
  file.writeUInt32LE(2 * samples.length, 40);
  samples.forEach((x, i) => {
    const value = bug === "truncation" ? Math.trunc(32767 * x) : roundHalfToEven(32767 * x);
    file.writeInt16LE(Math.min(Math.max(value, -32768), 32767), 44 + 2 * i);
  });
  return file;
}

function roundHalfToEven(x) {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}
