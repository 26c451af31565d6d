# Open Inference Protocol v2: what KServe, Triton's clients and many gateways speak.
curl --fail "$URL/v2/models/$MODEL/infer" -H 'Content-Type: application/json' -d "{
  \"inputs\": [{\"name\": \"image\", \"datatype\": \"BYTES\", \"shape\": [1], \"data\": [\"$(base64 -w 0 image.jpg)\"]}],
  \"parameters\": {\"confidence\": 0.4}
}"

# The older v1.
curl --fail "$URL/v1/models/$MODEL:predict" -H 'Content-Type: application/json' \
  -d "{\"instances\": [{\"b64\": \"$(base64 -w 0 image.jpg)\"}]}"
