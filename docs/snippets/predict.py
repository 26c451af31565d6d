import os

from visionyard.client import Client, DetectedImage

with Client(os.environ["URL"], api_key=os.environ.get("VISIONYARD_API_KEY", "")) as client:
    result = client.predict("image.jpg", confidence=0.4)
    if isinstance(result, DetectedImage):
        for box in result.boxes:
            print(box.class_name, box.confidence, box.xyxy)
    else:
        print(result.class_name, result.confidence)
