//! Scales a JPEG or PNG image: real work on real input, none of which is trusted.

use std::io::Cursor;

use image::{
    DynamicImage, ImageDecoder as _, ImageError, ImageReader, Limits, Rgb, RgbImage,
    codecs::jpeg::JpegEncoder,
};
use wharf_sdk::http::{Body, BodyExt as _, Error, Method, Request, Response, StatusCode};

/// The largest image that is read, in bytes of its file.
const MAX_BODY: usize = 16 << 20;

/// The largest image that is decoded, in pixels each way and in bytes of memory. A small file can hold a huge image.
const MAX_SIDE: u32 = 10_000;
const MAX_DECODED: u64 = 128 << 20;

const DEFAULT_WIDTH: u32 = 320;
const MAX_WIDTH: u32 = 2_000;
const QUALITY: u8 = 82;

#[wharf_sdk::http]
async fn thumbnail(request: Request<Body>) -> Result<Response<Body>, Error> {
    let response = match answer(request).await {
        Ok(jpeg) => Response::builder()
            .header("content-type", "image/jpeg")
            .body(jpeg.into())?,
        Err(Rejection(status, reason)) => {
            let mut response = Response::builder()
                .status(status)
                .header("content-type", "text/plain; charset=utf-8");
            if status == StatusCode::METHOD_NOT_ALLOWED {
                response = response.header("allow", "POST");
            }
            response.body(format!("{reason}\n").into())?
        }
    };
    Ok(response)
}

/// Why there is no thumbnail, for the client.
#[derive(Debug, PartialEq)]
struct Rejection(StatusCode, String);

impl Rejection {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self(status, reason.into())
    }
}

async fn answer(request: Request<Body>) -> Result<Vec<u8>, Rejection> {
    if request.method() != Method::POST {
        return Err(Rejection::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "POST a JPEG or PNG image",
        ));
    }
    let width = width(request.uri().query().unwrap_or_default())?;
    let file = read(request.into_body()).await?;
    scale(file, width)
}

/// The width the query asks for.
fn width(query: &str) -> Result<u32, Rejection> {
    let Some((_, width)) = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "width")
    else {
        return Ok(DEFAULT_WIDTH);
    };
    match width.parse() {
        Ok(width) if (1..=MAX_WIDTH).contains(&width) => Ok(width),
        _ => Err(Rejection::new(
            StatusCode::BAD_REQUEST,
            format!("width is a number from 1 to {MAX_WIDTH}"),
        )),
    }
}

/// Reads the body piece by piece, and no further than the limit.
async fn read(body: Body) -> Result<Vec<u8>, Rejection> {
    let too_large = || {
        Rejection::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("an image may have {MAX_BODY} bytes"),
        )
    };
    if body
        .content_length()
        .is_some_and(|length| length > MAX_BODY as u64)
    {
        return Err(too_large());
    }
    let mut file = Vec::new();
    let mut body = body.into_boxed_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Rejection::new(
                StatusCode::BAD_REQUEST,
                format!("the body ended early: {error}"),
            )
        })?;
        if let Ok(data) = frame.into_data() {
            if file.len() + data.len() > MAX_BODY {
                return Err(too_large());
            }
            file.extend_from_slice(&data);
        }
    }
    Ok(file)
}

/// Decodes, scales down to the width if the image is wider, and encodes as JPEG.
fn scale(file: Vec<u8>, width: u32) -> Result<Vec<u8>, Rejection> {
    let mut image = decode(file).map_err(|error| {
        let status = match error {
            ImageError::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ImageError::Limits(_) => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Rejection::new(status, format!("not an image that can be read: {error}"))
    })?;
    if image.width() > width {
        image = image.thumbnail(width, u32::MAX);
    }
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode_image(&on_white(&image))
        .map_err(|error| Rejection::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    Ok(jpeg)
}

/// The image, upright: cameras write how they were held instead of turning the pixels.
fn decode(file: Vec<u8>) -> Result<DynamicImage, ImageError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format()?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// JPEG has no transparency: what shows through is white.
fn on_white(image: &DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.to_rgb8();
    }
    let image = image.to_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0;
        let alpha = u32::from(alpha);
        // A mean of two bytes, weighed by a third, is a byte.
        Rgb([red, green, blue]
            .map(|part| ((u32::from(part) * alpha + 255 * (255 - alpha)) / 255) as u8))
    })
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};

    use super::*;

    fn png(width: u32, height: u32, pixel: Rgba<u8>) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        RgbaImage::from_pixel(width, height, pixel)
            .write_to(&mut file, ImageFormat::Png)
            .unwrap();
        file.into_inner()
    }

    fn status(file: Vec<u8>) -> u16 {
        scale(file, 320).unwrap_err().0.as_u16()
    }

    #[test]
    fn a_wide_image_is_scaled_and_keeps_its_proportions() {
        let jpeg = scale(png(640, 480, Rgba([200, 10, 10, 255])), 320).unwrap();
        let image = image::load_from_memory_with_format(&jpeg, ImageFormat::Jpeg).unwrap();
        assert_eq!((image.width(), image.height()), (320, 240));
    }

    #[test]
    fn a_small_image_keeps_its_size() {
        let jpeg = scale(png(10, 10, Rgba([200, 10, 10, 255])), 320).unwrap();
        assert_eq!(image::load_from_memory(&jpeg).unwrap().width(), 10);
    }

    #[test]
    fn what_is_transparent_turns_white() {
        let jpeg = scale(png(16, 16, Rgba([0, 0, 0, 0])), 320).unwrap();
        let image = image::load_from_memory(&jpeg).unwrap().to_rgb8();
        assert!(image.get_pixel(8, 8).0.iter().all(|part| *part > 250));
    }

    #[test]
    fn garbage_is_the_clients_fault() {
        assert_eq!(status(b"hello".to_vec()), 415);
        assert_eq!(status(Vec::new()), 415);
        let mut cut = png(640, 480, Rgba([1, 2, 3, 255]));
        cut.truncate(cut.len() / 2);
        assert_eq!(status(cut), 422);
    }

    #[test]
    fn an_image_larger_than_memory_is_refused_before_it_is_decoded() {
        assert_eq!(status(png(MAX_SIDE + 1, 1, Rgba([0, 0, 0, 255]))), 413);
    }

    #[test]
    fn the_width_is_a_number_in_its_range() {
        assert_eq!(width(""), Ok(320));
        assert_eq!(width("width=64"), Ok(64));
        for query in ["width=", "width=0", "width=-1", "width=2001", "width=x"] {
            assert_eq!(
                width(query).unwrap_err().0,
                StatusCode::BAD_REQUEST,
                "{query}"
            );
        }
    }
}
