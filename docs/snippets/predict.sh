# One image, as it is.
curl --fail --data-binary @image.jpg -H 'Content-Type: image/jpeg' "$URL/predict?confidence=0.4"

# Several images, in one request.
curl --fail -F a=@image.jpg -F b=@image.jpg "$URL/predict"

# The same picture with the boxes drawn on it.
curl --fail --data-binary @image.jpg -H 'Content-Type: image/jpeg' "$URL/predict/image" -o drawn.jpg
