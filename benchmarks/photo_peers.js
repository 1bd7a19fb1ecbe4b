// Expressions by @vladmandic/human or @vladmandic/face-api, each with its own detector, default settings.
//
//     PEERS=../shared/peers NODE_DIR=node-peers node photo_peers.js human|face-api images.bin out.jsonl
//
// images.bin holds for each image its height and width (uint32) and its RGB pixels. The output has one line per image: label →
// score of the largest face, or null without a face; and a last line with the mean milliseconds an image.
const path = require("path");
const { fs, req, modules, wasmPath, backend, serve } = require(path.join(process.env.PEERS, "node_common.js"));
const [, , name, raw, out] = process.argv;

function* images() {
  const data = fs.readFileSync(raw);
  for (let at = 0; at < data.length;) {
    const height = data.readUInt32LE(at), width = data.readUInt32LE(at + 4);
    const size = height * width * 3;
    yield { height, width, pixels: data.subarray(at + 8, at + 8 + size) };
    at += 8 + size;
  }
}

const largest = (faces, area) => faces.reduce((best, face) => (best && area(best) >= area(face) ? best : face), null);

async function openHuman() {
  await backend();
  const server = await serve(path.join(modules, "@vladmandic/human/models"));
  const { Human } = require(path.join(modules, "@vladmandic/human/dist/human.node-wasm.js"));
  const off = { enabled: false };
  const human = new Human({
    backend: "wasm", wasmPath, modelBasePath: server.url, debug: false, cacheSensitivity: 0, skipAllowed: false,
    face: { enabled: true, mesh: { enabled: true }, iris: off, description: off, emotion: { enabled: true, minConfidence: 0 } },
    body: off, hand: off, object: off, gesture: off, filter: off,
  });
  await human.load();
  return async ({ height, width, pixels }) => {
    const tensor = human.tf.tensor4d(Float32Array.from(pixels), [1, height, width, 3]);
    const { face } = await human.detect(tensor);
    tensor.dispose();
    const main = largest(face, (each) => each.box[2] * each.box[3]);
    return main && Object.fromEntries((main.emotion ?? []).map(({ emotion, score }) => [emotion, score]));
  };
}

async function openFaceApi() {
  const tf = await backend();
  const faceapi = req("@vladmandic/face-api/dist/face-api.node-wasm.js");
  const models = path.join(modules, "@vladmandic/face-api/model");
  for (const net of ["faceExpressionNet", "ssdMobilenetv1"]) await faceapi.nets[net].loadFromDisk(models);
  const rename = { fearful: "fear", disgusted: "disgust", surprised: "surprise" };
  return async ({ height, width, pixels }) => {
    const tensor = tf.tensor3d(Int32Array.from(pixels), [height, width, 3], "int32");
    const faces = await faceapi.detectAllFaces(tensor, new faceapi.SsdMobilenetv1Options()).withFaceExpressions();
    tensor.dispose();
    const main = largest(faces, (each) => each.detection.box.area);
    return main && Object.fromEntries(Object.entries({ ...main.expressions }).map(([label, score]) => [rename[label] ?? label, score]));
  };
}

(async () => {
  const predict = await { human: openHuman, "face-api": openFaceApi }[name]();
  const lines = [];
  const start = process.cpuUsage();
  for (const image of images()) lines.push(JSON.stringify(await predict(image)));
  const { user, system } = process.cpuUsage(start);
  lines.push(JSON.stringify({ ms: (user + system) / 1000 / Math.max(lines.length, 1) }));
  fs.writeFileSync(out, `${lines.join("\n")}\n`);
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
