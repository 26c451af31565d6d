import { readFile } from "node:fs/promises";

const response = await fetch(`${process.env.URL}/predict?confidence=0.4`, {
  method: "POST",
  headers: { "Content-Type": "image/jpeg", "X-API-Key": process.env.VISIONYARD_API_KEY ?? "" },
  body: await readFile("image.jpg"),
});
const answer = await response.json();
if (!response.ok) throw new Error(`${response.status}: ${answer.error}`);
for (const box of answer.predictions[0].boxes) console.log(box.class, box.confidence, box.xyxy);
