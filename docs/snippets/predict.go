package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
)

type answer struct {
	Error       string
	Predictions []struct {
		Boxes []struct {
			Class      string
			Confidence float64
			XYXY       [4]float64
		}
	}
}

func main() {
	image, err := os.Open("image.jpg")
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	request, err := http.NewRequest("POST", os.Getenv("URL")+"/predict?confidence=0.4", image)
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Content-Type", "image/jpeg")
	request.Header.Set("X-API-Key", os.Getenv("VISIONYARD_API_KEY"))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	var got answer
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		log.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		log.Fatalf("%d: %s", response.StatusCode, got.Error)
	}
	for _, box := range got.Predictions[0].Boxes {
		fmt.Println(box.Class, box.Confidence, box.XYXY)
	}
}
